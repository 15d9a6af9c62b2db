//! Bundles of PEM: what is amended holds ours and then each old certificate, and nothing that is none.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use callgate_trust::Ca;
use callgate_trust::pem::{self, Bundle};

use crate::seeds::OURS;

static CA: LazyLock<Ca> = LazyLock::new(|| Ca::of_pem(OURS).expect("a certificate"));

const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: &str = "CERTIFICATE-----";

pub fn run(data: &[u8]) -> bool {
    let own = pem::certificates(data);
    if let (Some(own), Some(again)) = (&own, another_reading(data)) {
        assert_eq!(own.iter().map(|der| der.to_vec()).collect::<Vec<_>>(), again);
    }
    match pem::amend(data, &CA) {
        Bundle::Other => assert!(own.is_none(), "what was read is not amended"),
        Bundle::Amended => assert!(own.is_some_and(|own| own.contains(CA.der()))),
        Bundle::Amend(amended) => {
            let (own, new) = (own.expect("it was read"), pem::certificates(&amended).expect("what is written is read"));
            let (ours, kept) = new.split_first().expect("ours");
            assert_eq!((ours, kept), (CA.der(), &own[..]));
            assert_eq!(pem::amend(&amended, &CA), Bundle::Amended);
            assert!(amended.len() <= 2 * data.len() + CA.pem().len(), "it grew to {}", amended.len());
            // What is no certificate does not come along.
            assert!(amended.is_ascii() && !amended.windows(8).any(|window| window == b"Two = 2\n"));
            return true;
        }
    }
    false
}

/// Each section by itself; none where one is no base64 that everybody reads, or there is more than text around it.
fn another_reading(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = String::from_utf8_lossy(data);
    let sections = text.split(BEGIN).skip(1);
    sections
        .map(|section| {
            let body = section.strip_prefix(CERTIFICATE)?.split_once("-----END ")?.0;
            STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
        })
        .collect()
}
