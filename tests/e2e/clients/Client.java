import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Java's HttpClient: the three calls and a POST to each base URL, preferring HTTP/2 and then HTTP/1.1 alone. */
class Client {
    public static void main(String[] bases) throws Exception {
        for (String base : bases) {
            for (HttpClient.Version version : new HttpClient.Version[] {HttpClient.Version.HTTP_2, HttpClient.Version.HTTP_1_1}) {
                HttpClient client = HttpClient.newBuilder().version(version).build();
                for (String[] call : new String[][] {{"GET", "/v1/health"}, {"GET", "/v1/users/7"}, {"DELETE", "/v1/users/7"}}) {
                    HttpRequest request = HttpRequest.newBuilder(URI.create(base + call[1]))
                        .method(call[0], HttpRequest.BodyPublishers.noBody()).build();
                    var answer = client.send(request, BodyHandlers.ofString());
                    System.out.println(version + " " + answer.version() + " " + answer.statusCode() + " " + answer.body().trim());
                }
                HttpRequest post = HttpRequest.newBuilder(URI.create(base + "/stored"))
                    .POST(HttpRequest.BodyPublishers.ofString("twelve bytes")).build();
                var answer = client.send(post, BodyHandlers.ofString());
                System.out.println(version + " " + answer.version() + " " + answer.statusCode() + " " + answer.body().trim());
            }
        }
    }
}
