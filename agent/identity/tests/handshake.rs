//! Real handshakes between [`Authority`]'s configurations and clients that trust its certificate.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use callgate_identity::{Authority, upstream_config};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

/// Serves `times` connections with the authority's configuration for `host`; returns the port.
fn serve(authority: &Authority, host: &str, times: usize) -> (u16, thread::JoinHandle<Vec<String>>) {
    let config = authority.server_config(host, &[b"http/1.1"]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let mut outcomes = Vec::new();
        for _ in 0..times {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
            let outcome =
                stream.read(&mut [0; 1]).and_then(|_| stream.write_all(b"hello")).and_then(|()| stream.flush());
            outcomes.push(match outcome {
                Ok(()) => format!("{:?}", tls.handshake_kind().unwrap()),
                Err(error) => error.to_string(),
            });
        }
        outcomes
    });
    (port, thread)
}

fn trusting(authority: &Authority, dir: &Path) -> Arc<rustls::ClientConfig> {
    let file = dir.join("ca.pem");
    fs::write(&file, authority.ca_pem()).unwrap();
    upstream_config(&[file], &[b"http/1.1"]).unwrap()
}

fn call(config: &Arc<rustls::ClientConfig>, port: u16, name: &str) -> Result<String, std::io::Error> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
    let mut tls = ClientConnection::new(config.clone(), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"x")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

#[test]
fn serves_names_and_addresses_without_resumption() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("test").unwrap();
    let config = trusting(&authority, dir.path());
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    for host in ["api.example", "with_underscore.example", "10.1.2.3", "2001:db8::1", &long] {
        let (port, server) = serve(&authority, host, 2);
        for _ in 0..2 {
            assert_eq!(call(&config, port, host).unwrap(), "hello", "{host}");
        }
        assert_eq!(server.join().unwrap(), ["Full", "Full"], "{host}");
    }
}

#[test]
fn refuses_another_name_and_another_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("one").unwrap(), Authority::new("one").unwrap());
    let (port, server) = serve(&authority, "api.example", 2);
    let error = call(&trusting(&authority, dir.path()), port, "other.example").unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let error = call(&trusting(&other, dir.path()), port, "api.example").unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    server.join().unwrap();
}

#[test]
fn passes_python_with_strict_verification() {
    // VERIFY_X509_STRICT is Python 3.13's default; asked for by name it works in older ones too.
    const CLIENT: &str = "
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
context.set_alpn_protocols(['http/1.1'])
with socket.create_connection(('127.0.0.1', int(sys.argv[2]))) as tcp:
    with context.wrap_socket(tcp, server_hostname=sys.argv[3]) as tls:
        tls.send(b'x')
        print(tls.recv(5).decode())
";
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("test").unwrap();
    let bundle = dir.path().join("bundle.pem");
    fs::write(&bundle, authority.bundle_pem()).unwrap();
    for host in ["api.example", "10.1.2.3"] {
        let (port, server) = serve(&authority, host, 1);
        let python =
            Command::new("python3").args(["-c", CLIENT]).arg(&bundle).arg(port.to_string()).arg(host).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&python.stdout), "hello\n", "{}", String::from_utf8_lossy(&python.stderr));
        server.join().unwrap();
    }
}
