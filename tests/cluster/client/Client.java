import java.net.HttpURLConnection;
import java.net.URI;

/** One call by Java's own client, with the roots that it finds by itself: {@code status 200}, or why it failed. */
public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
        connection.setConnectTimeout(10_000);
        connection.setReadTimeout(10_000);
        System.out.println("status " + connection.getResponseCode());
    }
}
