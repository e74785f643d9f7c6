//! How sure it is that a message is written, and written once.

use std::fmt;
use std::str::FromStr;

/// What a sink guarantees, in the words of Flink's `DeliveryGuarantee`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// Readers of committed messages see every message once. They see it when the snapshot is complete that has it.
    #[default]
    ExactlyOnce,
    /// Every message is written, at once. What was written since the last snapshot is written again after a failure.
    AtLeastOnce,
    /// Every message is sent at once, and nothing waits for it: what brokers do not take within `message.timeout.ms` is lost, with a
    /// line in the log. After a failure of the job, messages may be missing or there twice.
    None,
}

impl fmt::Display for DeliveryGuarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
            Self::None => "none",
        })
    }
}

impl FromStr for DeliveryGuarantee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::ExactlyOnce, Self::AtLeastOnce, Self::None];
        let found = all.into_iter().find(|guarantee| guarantee.to_string() == text);
        found.ok_or_else(|| format!("'{text}' is none of exactly-once, at-least-once, none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guarantee_is_read_as_it_is_written() {
        for guarantee in
            [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::None]
        {
            assert_eq!(guarantee.to_string().parse(), Ok(guarantee));
        }
        assert!("at-most-once".parse::<DeliveryGuarantee>().is_err());
    }
}
