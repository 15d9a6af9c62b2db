//! More tokens of services, known by their prefixes: registries, clouds, tools.

use super::prefixed::{ends_in_crc32, is_mixed};
use super::tokens::{ALNUM, HEX, PADDED, URL, WORD, sample, token};
use super::{Detector, Prefix};
use crate::class::Class;

/// Letters, digits, `_`, `-` and `.`.
static DOTTED: Class = Class::BASE64URL.bytes(b".");
/// Either case.
static HEXES: Class = Class::NONE.range(b'0', b'9').range(b'a', b'f').range(b'A', b'F');

/// npm: granular and classic tokens with their checksum.
#[rustfmt::skip]
pub(super) const NPM: Detector = token(
    "npm_token",
    21,
    "[masked:npm_token]",
    &["npm_"],
    const { &[
        Prefix::new("npm_", &ALNUM, (36, 36)).that(ends_in_crc32),
    ] },
    const { &[
        sample("//registry.npmjs.org/:_authToken=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", "//registry.npmjs.org/:_authToken=[masked:npm_token]"),
    ] },
    const { &[
        "npm_ExampleExampleExampleExample4219jpxU",
        "npm_config_cache",
        "_npm_ExampleExampleExampleExample4219jpxT",
    ] },
);

/// GitLab: personal, trigger, runner and deploy tokens.
#[rustfmt::skip]
pub(super) const GITLAB: Detector = token(
    "gitlab_token",
    22,
    "[masked:gitlab_token]",
    &["glpat-", "glptt-", "glrt-", "gldt-"],
    const { &[
        Prefix::new("glpat-", &DOTTED, (20, 300)).that(is_mixed),
        Prefix::new("glptt-", &DOTTED, (20, 300)).that(is_mixed),
        Prefix::new("glrt-", &DOTTED, (20, 300)).that(is_mixed),
        Prefix::new("gldt-", &DOTTED, (20, 300)).that(is_mixed),
    ] },
    const { &[
        sample("glpat-Example0Example1Exam", "[masked:gitlab_token]"),
        sample("PRIVATE-TOKEN: glrt-Example0Example1Exam", "PRIVATE-TOKEN: [masked:gitlab_token]"),
    ] },
    const { &[
        "glpat-short1",
        "glpat-exampleexampleexample",
        "aglpat-Example0Example1Exam",
    ] },
);

/// SendGrid: API keys, which have two parts.
#[rustfmt::skip]
pub(super) const SENDGRID: Detector = token(
    "sendgrid_key",
    23,
    "[masked:sendgrid_key]",
    &["SG."],
    const { &[
        Prefix::new("SG.", &DOTTED, (66, 66)).that(|rest| rest.get(22) == Some(&b'.') && is_mixed(rest)),
    ] },
    const { &[
        sample("SG.Example0Example1Exampl.Example0Example1Example2Example3Example4Exa", "[masked:sendgrid_key]"),
    ] },
    const { &[
        "SG.Example0Example1Exampl",
        "SG.Example0Example1Example.xample0Example1Example2Example3Example4Exa",
        "MSG.Example0Example1Exampl.Example0Example1Example2Example3Example4Exa",
    ] },
);

/// Twilio: auth tokens where they are named; 32 hexadecimal digits are not told from others by themselves.
#[rustfmt::skip]
pub(super) const TWILIO: Detector = token(
    "twilio_key",
    24,
    "[masked:twilio_key]",
    &["wilio_auth_token", "WILIO_AUTH_TOKEN", "wilioAuthToken"],
    const { &[
        Prefix::new("wilio_auth_token", &HEX, (32, 32)).stays(),
        Prefix::new("WILIO_AUTH_TOKEN", &HEX, (32, 32)).stays(),
        Prefix::new("wilioAuthToken", &HEX, (32, 32)).stays(),
    ] },
    const { &[
        sample("TWILIO_AUTH_TOKEN=0123456789abcdef0123456789abcdef", "TWILIO_AUTH_TOKEN=[masked:twilio_key]"),
        sample("{\"twilioAuthToken\":\"0123456789abcdef0123456789abcdef\"}", "{\"twilioAuthToken\":\"[masked:twilio_key]\"}"),
    ] },
    const { &[
        "TWILIO_AUTH_TOKEN=$TOKEN",
        "TWILIO_AUTH_TOKEN=0123456789abcdef0123456789abcdef0",
        "0123456789abcdef0123456789abcdef",
    ] },
);

/// Azure: keys in the connection strings of storage and of service buses.
#[rustfmt::skip]
pub(super) const AZURE_STORAGE: Detector = token(
    "azure_storage_key",
    25,
    "[masked:azure_storage_key]",
    &["AccountKey=", "SharedAccessKey="],
    const { &[
        Prefix::new("AccountKey=", &PADDED, (88, 88)).that(|rest| rest.ends_with(b"==")).stays(),
        Prefix::new("SharedAccessKey=", &PADDED, (44, 44)).that(|rest| rest.ends_with(b"=")).stays(),
    ] },
    const { &[
        sample("AccountName=x;AccountKey=Example0Example0Example0Example0Example0Example0Example0Example0Example0Example0Exampl==;EndpointSuffix=core.windows.net", "AccountName=x;AccountKey=[masked:azure_storage_key];EndpointSuffix=core.windows.net"),
        sample("SharedAccessKey=Example0Example0Example0Example0Example0Exa=", "SharedAccessKey=[masked:azure_storage_key]"),
    ] },
    const { &[
        "AccountKey=short==",
        "AccountKey=Example0Example0Example0Example0Example0Example0Example0Example0Example0Example0Example0",
        "SharedAccessKeyName=RootManageSharedAccessKey",
    ] },
);

/// PyPI: upload tokens.
#[rustfmt::skip]
pub(super) const PYPI: Detector = token(
    "pypi_token",
    26,
    "[masked:pypi_token]",
    &["pypi-AgE"],
    const { &[
        Prefix::new("pypi-AgE", &URL, (50, 1000)).that(is_mixed),
    ] },
    const { &[
        sample("password = pypi-AgEIcHlwaS5vcmcExample0Example0Example0Example0Example0Example0", "password = [masked:pypi_token]"),
    ] },
    const { &[
        "pypi-AgEIcHlwaS5vcmc",
        "pypi-server",
    ] },
);

/// HashiCorp Vault: service and batch tokens.
#[rustfmt::skip]
pub(super) const VAULT: Detector = token(
    "vault_token",
    27,
    "[masked:vault_token]",
    &["hvs.", "hvb."],
    const { &[
        Prefix::new("hvs.", &URL, (24, 300)).that(is_mixed),
        Prefix::new("hvb.", &URL, (100, 300)).that(is_mixed),
    ] },
    const { &[
        sample("VAULT_TOKEN=hvs.CAESExample0Example1Example2", "VAULT_TOKEN=[masked:vault_token]"),
    ] },
    const { &[
        "hvs.short",
        "chvs.CAESExample0Example1Example2",
    ] },
);

/// DigitalOcean: personal, OAuth and refresh tokens.
#[rustfmt::skip]
pub(super) const DIGITALOCEAN: Detector = token(
    "digitalocean_token",
    28,
    "[masked:digitalocean_token]",
    &["dop_v1_", "doo_v1_", "dor_v1_"],
    const { &[
        Prefix::new("dop_v1_", &HEX, (64, 64)),
        Prefix::new("doo_v1_", &HEX, (64, 64)),
        Prefix::new("dor_v1_", &HEX, (64, 64)),
    ] },
    const { &[
        sample("dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "[masked:digitalocean_token]"),
    ] },
    const { &[
        "dop_v1_0123456789abcdef0123456789abcdef0123456789abcdef",
        "dop_v1_0123456789abcdeg0123456789abcdeg0123456789abcdeg0123456789abcdeg",
    ] },
);

/// Hugging Face: user tokens.
#[rustfmt::skip]
pub(super) const HUGGING_FACE: Detector = token(
    "huggingface_token",
    29,
    "[masked:huggingface_token]",
    &["hf_"],
    const { &[
        Prefix::new("hf_", &ALNUM, (34, 34)).that(|rest| rest.iter().any(u8::is_ascii_uppercase) && rest.iter().any(u8::is_ascii_lowercase)),
    ] },
    const { &[
        sample("HF_TOKEN=hf_ExampleExampleExampleExampleExampl", "HF_TOKEN=[masked:huggingface_token]"),
    ] },
    const { &[
        "hf_ExampleExample",
        "hf_hub_download",
        "shf_ExampleExampleExampleExampleExampl",
    ] },
);

/// Shopify: access tokens and shared secrets.
#[rustfmt::skip]
pub(super) const SHOPIFY: Detector = token(
    "shopify_token",
    30,
    "[masked:shopify_token]",
    &["shp"],
    const { &[
        Prefix::new("shpat_", &HEXES, (32, 32)),
        Prefix::new("shpca_", &HEXES, (32, 32)),
        Prefix::new("shppa_", &HEXES, (32, 32)),
        Prefix::new("shpss_", &HEXES, (32, 32)),
    ] },
    const { &[
        sample("X-Shopify-Access-Token: shpat_0123456789abcdef0123456789abcdef", "X-Shopify-Access-Token: [masked:shopify_token]"),
    ] },
    const { &[
        "shpat_0123456789abcdef",
        "shape_0123456789abcdef0123456789abcdef",
    ] },
);

/// Databricks: personal access tokens.
#[rustfmt::skip]
pub(super) const DATABRICKS: Detector = token(
    "databricks_token",
    31,
    "[masked:databricks_token]",
    &["dapi"],
    const { &[
        Prefix::new("dapi", &HEX, (32, 32)),
    ] },
    const { &[
        sample("dapi0123456789abcdef0123456789abcdef", "[masked:databricks_token]"),
    ] },
    const { &[
        "dapi0123456789abcdef",
        "dapi0123456789abcdef0123456789abcdef0",
    ] },
);

/// Grafana: service accounts and cloud access policies.
#[rustfmt::skip]
pub(super) const GRAFANA: Detector = token(
    "grafana_token",
    32,
    "[masked:grafana_token]",
    &["glsa_", "glc_"],
    const { &[
        Prefix::new("glsa_", &WORD, (41, 41)).that(|rest| rest.get(32) == Some(&b'_')),
        Prefix::new("glc_", &PADDED, (40, 400)).that(is_mixed),
    ] },
    const { &[
        sample("glsa_Example0Example1Example2Example3_0123abcd", "[masked:grafana_token]"),
        sample("glc_eyJExample0Example1Example2Example3Example4==", "[masked:grafana_token]"),
    ] },
    const { &[
        "glsa_Example0Example1Example2Example3",
        "glc_short1",
    ] },
);
