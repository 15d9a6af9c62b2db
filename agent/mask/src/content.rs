//! What the stream is written in, as far as it decides what may replace a finding.

/// What a stream is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// JSON, JSON lines, or server-sent events that carry JSON: a finding in a number stays a number.
    Json,
    /// Anything else.
    Text,
}

impl Content {
    /// What a `Content-Type` says; anything that may carry JSON counts as JSON.
    ///
    /// ```
    /// use callgate_mask::Content;
    /// assert_eq!(Content::of("application/problem+json; charset=utf-8"), Content::Json);
    /// assert_eq!(Content::of("text/html"), Content::Text);
    /// ```
    #[must_use]
    pub fn of(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let json = media.contains("json") || media == "text/event-stream" || media.contains("javascript");
        if json { Self::Json } else { Self::Text }
    }
}
