//! The variables by which clients are told of a bundle: the same for `callgate run`, for pods and in the documentation.

/// Password of the trust store: Java wants one, its content is public. Source: the JDK's own default.
pub const PASSWORD: &str = "changeit";

/// The variables that take a PEM bundle, and who reads them. The bundle is the system's roots and our CA,
/// because most of these replace the client's own roots.
pub const BUNDLE: &[&str] = &[
    "SSL_CERT_FILE",                    // OpenSSL, Go, rustls-native-certs, Ruby, PHP
    "CURL_CA_BUNDLE",                   // curl
    "REQUESTS_CA_BUNDLE",               // Python requests, httpx
    "NODE_EXTRA_CA_CERTS",              // Node, added to its own
    "GIT_SSL_CAINFO",                   // git
    "AWS_CA_BUNDLE",                    // AWS CLI and SDKs
    "PIP_CERT",                         // pip
    "CARGO_HTTP_CAINFO",                // cargo
    "DENO_CERT",                        // Deno
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", // gRPC's C core
];

/// The variable that Java reads its options from.
pub const JAVA: &str = "JAVA_TOOL_OPTIONS";

/// What tells Java of the trust store at `store`. Java splits the variable at blanks; quotes keep a path together.
#[must_use]
pub fn java_options(store: &str) -> String {
    let quote = if store.contains(' ') { "\"" } else { "" };
    format!(
        "{quote}-Djavax.net.ssl.trustStore={store}{quote} -Djavax.net.ssl.trustStoreType=PKCS12 \
         -Djavax.net.ssl.trustStorePassword={PASSWORD}"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_blank_in_a_path_does_not_part_it() {
        assert!(super::java_options("/a b/x.p12").starts_with("\"-Djavax.net.ssl.trustStore=/a b/x.p12\" "));
        assert!(super::java_options("/a/x.p12").starts_with("-Djavax.net.ssl.trustStore=/a/x.p12 "));
    }
}
