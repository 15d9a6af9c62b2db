//! Tokens and keys of services, known by their prefixes. Sources: what the issuers document of their formats.

use super::prefixed::{ends_in_crc32, is_mixed};
use super::{Detector, Find, Gate, Leading, Partial, Prefix, Sample};
use crate::class::Class;
use crate::kinds::Group;

/// Letters, digits and `_`.
pub(super) static WORD: Class = Class::ALNUM.bytes(b"_");
/// Letters, digits and `/`.
static PATH: Class = Class::ALNUM.bytes(b"/");
/// RFC 6750 §2.1.
static BEARER68: Class = Class::ALNUM.bytes(b"-._~+/=");
/// Base64 with its padding.
pub(super) static PADDED: Class = Class::BASE64.bytes(b"=");
pub(super) static HEX: Class = Class::NONE.range(b'0', b'9').range(b'a', b'f');
pub(super) static ALNUM: Class = Class::ALNUM;
pub(super) static URL: Class = Class::BASE64URL;

/// A row of this file: secrets without anything to show in part.
pub(super) const fn token(
    name: &'static str,
    bit: u32,
    label: &'static str,
    literals: &'static [&'static str],
    prefixes: &'static [Prefix],
    samples: &'static [Sample],
    near_misses: &'static [&'static str],
) -> Detector {
    Detector {
        name,
        bit,
        groups: &[Group::Secrets],
        label,
        samples,
        near_misses,
        gate: Gate::literals(literals),
        // The longest prefix and rest of this file, and the bytes behind them.
        longest: 1100,
        leading: Leading::NONE,
        find: Find::Prefixed(prefixes),
        unbounded: false,
        partial: Partial::Refused,
    }
}

pub(super) const fn sample(text: &'static str, masked: &'static str) -> Sample {
    Sample { text, masked }
}

/// GitHub: personal, OAuth, user, server and refresh tokens with their checksum, and fine-grained ones.
#[rustfmt::skip]
pub(super) const GITHUB: Detector = token(
    "github_token",
    14,
    "[masked:github_token]",
    &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
    const { &[
        Prefix::new("ghp_", &ALNUM, (36, 36)).that(ends_in_crc32),
        Prefix::new("gho_", &ALNUM, (36, 36)).that(ends_in_crc32),
        Prefix::new("ghu_", &ALNUM, (36, 36)).that(ends_in_crc32),
        Prefix::new("ghs_", &ALNUM, (36, 36)).that(ends_in_crc32),
        Prefix::new("ghr_", &ALNUM, (36, 36)).that(ends_in_crc32),
        Prefix::new("github_pat_", &WORD, (82, 82)),
    ] },
    const { &[
        sample("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", "[masked:github_token]"),
        sample("git clone https://x:ghs_ExampleExampleExampleExamples74P3F14@github.com/a/b", "git clone https://x:[masked:github_token]@github.com/a/b"),
        sample("{\"token\":\"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\"}", "{\"token\":\"[masked:github_token]\"}"),
        sample("[\"\\nghu_ExampleExampleExampleExampleu732eE0u\\n\"]", "[\"\\n[masked:github_token]\\n\"]"),
        sample("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", "[masked:github_token]"),
        sample("github_pat_11AAAAAAA0ExampleExample_ExampleExampleExampleExampleExampleExampleExampleExampleE", "[masked:github_token]"),
    ] },
    const { &[
        "ghp_ExampleExampleExampleExamplep74111TA",
        "ghp_ExampleExampleExampleExamplep74111T",
        "x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",
        "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Z",
        "ghp_",
        "github_pat_short",
    ] },
);

/// Slack: bot, user, app and refresh tokens, and what follows in the address of a webhook.
#[rustfmt::skip]
pub(super) const SLACK: Detector = token(
    "slack_token",
    15,
    "[masked:slack_token]",
    &["xox", "xapp-", "hooks.slack.com/services/"],
    const { &[
        Prefix::new("xoxb-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxp-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxa-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxr-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxs-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxc-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxd-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxe.xoxp-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xoxe-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("xapp-", &URL, (20, 250)).that(is_mixed),
        Prefix::new("hooks.slack.com/services/", &PATH, (30, 100)).that(is_mixed).stays(),
    ] },
    const { &[
        sample("xoxb-123456789012-1234567890123-ExampleExampleExample123", "[masked:slack_token]"),
        sample("xapp-1-A0123456789-1234567890123-0123456789abcdef", "[masked:slack_token]"),
        sample("https://hooks.slack.com/services/T0123EXAM/B0123EXAM/ExampleExampleExample123", "https://hooks.slack.com/services/[masked:slack_token]"),
    ] },
    const { &[
        "xoxb-short",
        "xoxo-hugs-and-kisses-to-all-of-you-1",
        "xxoxb-123456789012-1234567890123-ExampleExampleExample123",
        "hooks.slack.com/services/docs",
    ] },
);

/// Google: API keys, OAuth client secrets, access tokens.
#[rustfmt::skip]
pub(super) const GOOGLE: Detector = token(
    "google_api_key",
    16,
    "[masked:google_api_key]",
    &["AIza", "GOCSPX-", "ya29."],
    const { &[
        Prefix::new("AIza", &URL, (35, 35)),
        Prefix::new("GOCSPX-", &URL, (28, 28)),
        Prefix::new("ya29.", &URL, (40, 1000)).that(is_mixed),
    ] },
    const { &[
        sample("AIzaSyExample-ExampleExample_Example012", "[masked:google_api_key]"),
        sample("GOCSPX-ExampleExample_Example-01234", "[masked:google_api_key]"),
        sample("key=AIzaSyExample-ExampleExample_Example012&x", "key=[masked:google_api_key]&x"),
        sample("ya29.a0ExampleExampleExampleExampleExampleExample", "[masked:google_api_key]"),
    ] },
    const { &[
        "AIzaSyTooShort",
        "AIzaSyExample-ExampleExample_Example012X",
        "BAIzaSyExample-ExampleExample_Example012",
        "GOCSPX-",
        "ya29.html",
    ] },
);

/// Stripe: secret and restricted keys, signing secrets of webhooks; publishable keys are public.
#[rustfmt::skip]
pub(super) const STRIPE: Detector = token(
    "stripe_key",
    17,
    "[masked:stripe_key]",
    &["sk_", "rk_", "whsec_"],
    const { &[
        Prefix::new("sk_live_", &ALNUM, (16, 250)).that(is_mixed),
        Prefix::new("sk_test_", &ALNUM, (16, 250)).that(is_mixed),
        Prefix::new("rk_live_", &ALNUM, (16, 250)).that(is_mixed),
        Prefix::new("rk_test_", &ALNUM, (16, 250)).that(is_mixed),
        Prefix::new("whsec_", &PADDED, (32, 64)).that(is_mixed),
    ] },
    const { &[
        sample("sk_live_51ExampleExampleExample0", "[masked:stripe_key]"),
        sample("key: rk_test_Example0Example1Example2", "key: [masked:stripe_key]"),
        sample("whsec_Example0Example1Example2Example3", "[masked:stripe_key]"),
    ] },
    const { &[
        "sk_live_",
        "sk_live_short1",
        "task_live_51ExampleExampleExample0",
        "sk_dead_51ExampleExampleExample0",
        "pk_live_51ExampleExampleExample0",
        "sk_test_exampleexampleexample",
    ] },
);

/// OpenAI and alike: keys of projects, service accounts, administrators, and old ones.
#[rustfmt::skip]
pub(super) const OPENAI: Detector = token(
    "openai_key",
    18,
    "[masked:openai_key]",
    &["sk-"],
    const { &[
        Prefix::new("sk-proj-", &URL, (40, 250)).that(is_mixed),
        Prefix::new("sk-svcacct-", &URL, (40, 250)).that(is_mixed),
        Prefix::new("sk-admin-", &URL, (40, 250)).that(is_mixed),
        Prefix::new("sk-None-", &URL, (40, 250)).that(is_mixed),
        Prefix::new("sk-or-v1-", &URL, (40, 250)).that(is_mixed),
        Prefix::new("sk-", &ALNUM, (48, 48)).that(is_mixed),
    ] },
    const { &[
        sample("sk-proj-Example0Example1Example2_Example3-Example4Example5", "[masked:openai_key]"),
        sample("OPENAI_API_KEY=sk-Example0Example1Example2Example3Example4Example5", "OPENAI_API_KEY=[masked:openai_key]"),
        sample("sk-svcacct-Example0Example1Example2Example3Example4Example5", "[masked:openai_key]"),
    ] },
    const { &[
        "sk-proj-short",
        "sk-toggleable__content",
        "risk-Example0Example1Example2Example3Example4Example5",
        "sk-Example0Example1",
        "sk-ant-nothing",
    ] },
);

/// Anthropic: API and admin keys.
#[rustfmt::skip]
pub(super) const ANTHROPIC: Detector = token(
    "anthropic_key",
    19,
    "[masked:anthropic_key]",
    &["sk-ant-"],
    const { &[
        Prefix::new("sk-ant-", &URL, (40, 250)).that(is_mixed),
    ] },
    const { &[
        sample("sk-ant-api03-Example0Example1Example2_Example3-Example4AA", "[masked:anthropic_key]"),
        sample("x-api-key: sk-ant-api03-Example0Example1Example2_Example3-Example4AA\"", "x-api-key: [masked:anthropic_key]\""),
    ] },
    const { &[
        "sk-ant-api03-short",
        "sk-antique-0",
        "task-ant-api03-Example0Example1Example2_Example3-Example4AA",
    ] },
);

/// Whatever follows the word Bearer and is long and mixed enough for a token.
#[rustfmt::skip]
pub(super) const BEARER: Detector = token(
    "bearer_token",
    20,
    "[masked:bearer_token]",
    &["earer ", "EARER "],
    const { &[
        Prefix::new("earer ", &BEARER68, (20, 1024)).that(is_mixed).stays(),
        Prefix::new("EARER ", &BEARER68, (20, 1024)).that(is_mixed).stays(),
    ] },
    const { &[
        sample("Authorization: Bearer Example0Example1Example2", "Authorization: Bearer [masked:bearer_token]"),
        sample("{\"h\":\"bearer AbCdEf0123456789-._~+/abcdef==\"}", "{\"h\":\"bearer [masked:bearer_token]\"}"),
    ] },
    const { &[
        "Bearer of good news and of bad ones",
        "Bearer authentication-is-required-here",
        "Bearer abc123",
        "the bearer 12345678901234567890123",
    ] },
);
