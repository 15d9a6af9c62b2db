//! Authorities: what is read prints as what is read alike, and no address hides in a name.

use std::net::IpAddr;

use callgate_model::Service;
use callgate_wire::Authority;

pub fn run(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(authority) = Authority::parse(text, 80) else { return false };
    let service = &authority.service;
    let printed = service.to_string();
    let again = Authority::parse(&printed, 1).unwrap_or_else(|error| panic!("{printed} is refused: {error}"));
    assert!(again.explicit_port && again.service == *service);
    assert_eq!(printed.parse::<Service>().as_ref(), Ok(service));
    assert!(authority.explicit_port || service.port() == 80);
    assert_ne!(service.port(), 0);

    let host = service.host();
    assert!(!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    assert!(!host.contains(['@', '/', '\\', '%', '?', '#', '[', ']', ',']));
    match host.parse::<IpAddr>() {
        Ok(address) => {
            assert_eq!(address.to_canonical(), address, "a v4-mapped address stayed");
            assert_eq!(address.to_string(), host);
        }
        Err(_) => {
            // WHATWG URL §3.5: a host whose last label is a number is an address, or none at all.
            let last = host.rsplit('.').next().unwrap_or_default();
            let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(!hex && !last.bytes().all(|byte| byte.is_ascii_digit()), "{host} is an address to some");
        }
    }
    true
}
