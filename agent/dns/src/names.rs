//! Names that are fit to carry data away: long ones, and random ones.
//!
//! Entropy is Shannon's, over the bytes of each run of letters and digits within a label: how many bits a byte tells
//! at most when only the frequencies of bytes are known. Words and identifiers in hexadecimal stay at or below 4; data
//! in base32 or base64 goes above once a run is long enough. A tunnel may use short runs or hexadecimal instead: what
//! holds it then is how long names may be and how often they may be asked for.

use hickory_proto::rr::Name;

use crate::Settings;

/// Whether `name`, in lower case, may be looked up.
pub(crate) fn fits(settings: &Settings, name: &Name) -> bool {
    if settings.exempt.iter().any(|domain| domain.zone_of(name)) {
        return true;
    }
    let mut length = 0;
    for label in name.iter() {
        length += label.len() + 1;
        if label.len() > settings.label_max {
            return false;
        }
        // A byte of no letter or digit ends a run, but a byte of no text is data by itself.
        let runs = label.split(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric());
        for run in runs.filter(|run| run.len() >= settings.entropy_from.max(1)) {
            if entropy(run) > settings.entropy_max {
                return false;
            }
        }
    }
    length <= settings.name_max + 1
}

/// Shannon's entropy of the bytes. Unit: bits per byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(name: &str) -> bool {
        fits(&Settings::default(), &Name::from_ascii(format!("{name}.")).unwrap().to_lowercase())
    }

    #[test]
    fn names_in_use_fit() {
        for name in [
            "example.com",
            "my-very-long-service-name-prod-eu-west-1.internal-gateway.payments-service.team-checkout.example.com",
            "_c3e2d7eaf1e656b73f46cd6980fc0e.xlfgrmvvlj.acm-validations.aws",
            "k8s-default-ingressn-1a2b3c4d5e-1234567890abcdef.elb.eu-central-1.amazonaws.com",
            "550e8400-e29b-41d4-a716-446655440000.privatelink.blob.core.windows.net",
            "vpce-0a1b2c3d4e5f67890-abcdefgh-us-east-1b.s3.us-east-1.vpce.amazonaws.com",
            "ingress-nginx-controller-admission.ingress-nginx.svc.cluster.local",
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b.example.com",
            "internationalizationserviceproduction.example.com",
        ] {
            assert!(fit(name), "{name}");
        }
        assert!(fits(&Settings::default(), &Name::root()));
    }

    #[test]
    fn chunks_of_data_do_not() {
        for name in [
            // base32 of text, base64url of /dev/urandom; the spelling is not counted, as it may be chosen at random
            "mzxw6ytboi5gk3tdmfzwk4tfmnzgk5bamrqxiyjam5xwk4zanbsxezi.t.example.com",
            "x.k5qxg2lom5rw64tfonzw63ramfxgiidtn5wwk33omu.tunnel.example.org",
            "KZAlEfHwnILrnDwMj8x17FxTLWTJDd7Y88ZvNdIC.example.com",
        ] {
            assert!(!fit(name), "{name}");
        }
        assert!(!fit(&format!("{}.example.com", "a".repeat(61))), "a label too long");
        assert!(!fit(&["abcdefgh"; 20].join(".")), "a name too long");
        let settings = Settings::default();
        let binary = Name::from_labels([&(0x80_u8..0xa8).collect::<Vec<_>>()[..], b"example", b"com"]).unwrap();
        assert!(!fits(&settings, &binary));
    }

    #[test]
    fn exempt_domains_are_not_judged() {
        let mut settings = Settings::default();
        settings.exempt("Tunnel.Example.ORG").unwrap();
        let chunk = "k5qxg2lom5rw64tfonzw63ramfxgiidtn5wwk33omu";
        for (domain, fine) in [("tunnel.example.org", true), ("a.tunnel.example.org", true), ("example.org", false)] {
            let name = Name::from_ascii(format!("{chunk}.{domain}.")).unwrap();
            assert_eq!(fits(&settings, &name), fine, "{domain}");
        }
        assert!(settings.exempt(".").is_err() && settings.exempt("a..b").is_err());
    }

    #[test]
    fn entropy_is_shannons() {
        assert_eq!(entropy(b"aaaa"), 0.0);
        assert_eq!(entropy(b"abab"), 1.0);
        assert_eq!(entropy(b"0123456789abcdef"), 4.0);
    }
}
