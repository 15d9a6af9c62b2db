//! An error in one line.

use std::error::Error;

/// The error and what caused it, joined by `: `; a cause that the text before it has said already is left out.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    enum Outer {
        #[error("store: {source}")]
        Says { source: io::Error },
        #[error("store")]
        Silent { source: io::Error },
    }

    #[test]
    fn a_cause_is_said_once() {
        let denied = || io::Error::from_raw_os_error(13);
        let expected = "store: Permission denied (os error 13)";
        assert_eq!(causes(&Outer::Says { source: denied() }), expected);
        assert_eq!(causes(&Outer::Silent { source: denied() }), expected);
    }
}
