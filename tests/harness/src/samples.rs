//! Made-up personal data and secrets that look real: valid checksums, valid structure, nobody's.
//!
//! The same number always gives the same sample, so a test can ask for what an upstream answered.
//! Assembled from parts, so that no scanner takes this file for a leak.

/// An e-mail address in a domain reserved for examples (RFC 2606).
pub fn email(n: u64) -> String {
    format!("{}.{}{n}@example.com", first(n).to_lowercase(), last(n).to_lowercase())
}

/// A person's name.
pub fn name(n: u64) -> String {
    format!("{} {}", first(n), last(n))
}

/// A payment card number of 16 digits with a valid Luhn digit.
pub fn card(n: u64) -> String {
    let digits = format!("4{:014}", (n.wrapping_mul(2_654_435_761)) % 100_000_000_000_000);
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// A signed-looking JSON web token of user `n`.
pub fn jwt(n: u64) -> String {
    let header = base64url(br#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = base64url(format!(r#"{{"sub":"user-{n}","iss":"https://issuer.example"}}"#).as_bytes());
    let signature = base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, claims.as_bytes()).as_ref());
    format!("{header}.{claims}.{signature}")
}

/// An access key id and its secret, shaped like those of AWS.
pub fn aws_key(n: u64) -> (String, String) {
    const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_be_bytes());
    let id: String = hash.as_ref().iter().take(16).map(|byte| char::from(BASE32[usize::from(byte % 32)])).collect();
    let secret: String =
        base64url(hash.as_ref()).replace('-', "+").replace('_', "/").chars().cycle().take(40).collect();
    (["AK", "IA", &id].concat(), secret)
}

/// A private key in PEM that opens nothing: the body is a repeated hash.
pub fn private_key_pem(n: u64) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, &n.to_be_bytes());
    let line = base64url(hash.as_ref()).replace('-', "+").replace('_', "/");
    let dashes = "-".repeat(5);
    format!("{dashes}BEGIN PRIVATE KEY{dashes}\n{}{dashes}END PRIVATE KEY{dashes}\n", format!("{line}\n").repeat(16))
}

/// The JSON object that `/v1/users/<n>` answers.
pub fn user_json(n: u64) -> String {
    serde_json::json!({
        "id": n,
        "name": name(n),
        "email": email(n),
        "card": card(n),
        "token": jwt(n),
        "note": format!("call {} before noon, card on file {}", email(n + 1), card(n + 1)),
    })
    .to_string()
}

/// A JSON object of exactly 1 KiB, as an API gives it: one user with personal data and a token, and what is none.
pub fn kib_json() -> String {
    let start = format!(r#"{{"user":{},"items":["#, user_json(7));
    let mut text = start;
    for n in 0.. {
        let item = format!(r#"{{"sku":"sku-{n:03}","amount":{n},"state":"shipped"}},"#);
        // What is left is filled up by one last text.
        if text.len() + item.len() > 1024 - 32 {
            break;
        }
        text.push_str(&item);
    }
    let end = r#"{"note":""}]}"#;
    let rest = 1024_usize.saturating_sub(text.len() + end.len());
    text.push_str(&end.replace(r#""""#, &format!(r#""{}""#, "x".repeat(rest))));
    text
}

/// Base64 with the URL alphabet, without padding (RFC 4648 §5).
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

fn first(n: u64) -> &'static str {
    const NAMES: [&str; 8] = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Ken", "Frances", "Tony"];
    NAMES[(n % NAMES.len() as u64) as usize]
}

fn last(n: u64) -> &'static str {
    const NAMES: [&str; 7] = ["Byron", "Murray", "Mathison", "Wybe", "Huberman", "Lane", "Allen"];
    NAMES[(n % NAMES.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_as_in_rfc_4648() {
        let vectors = [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")];
        for (plain, encoded) in vectors {
            assert_eq!(base64url(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_kib_is_1024_bytes_of_json() {
        let text = kib_json();
        assert_eq!(text.len(), 1024);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["user"]["email"], email(7));
    }

    #[test]
    fn every_card_passes_luhn() {
        for n in 0..1000 {
            let sum: u32 = card(n)
                .bytes()
                .rev()
                .enumerate()
                .map(|(place, byte)| {
                    let digit = u32::from(byte - b'0');
                    if place % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
                })
                .sum();
            assert_eq!((sum % 10, card(n).len()), (0, 16), "card {n}");
        }
    }
}
