//! The name of a place in a bucket.

use std::fmt;
use std::str::FromStr;

use tidegate_protocol::Error;

const SCHEME: &str = "s3://";

/// A bucket and the beginning of the names of objects in it: `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct S3Uri {
    bucket: String,
    /// Without a slash at either end; may be empty.
    prefix: String,
}

impl S3Uri {
    /// True for a text that is meant as the name of a bucket, whether it is valid or not, and not as a path.
    pub fn is_meant_by(text: &str) -> bool {
        text.contains("://")
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// A place below this one.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self { bucket: self.bucket.clone(), prefix: self.key(name) }
    }

    /// The place around an object, and the object's name in it; None for a whole bucket.
    pub fn parent_and_name(&self) -> Option<(Self, &str)> {
        let (parent, name) = self.prefix.rsplit_once('/').unwrap_or(("", &self.prefix));
        let parent = Self { bucket: self.bucket.clone(), prefix: parent.to_owned() };
        (!name.is_empty()).then_some((parent, name))
    }

    /// The key of an object with this name.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

impl fmt::Display for S3Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{SCHEME}{}{slash}{}", self.bucket, self.prefix)
    }
}

impl FromStr for S3Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::environment(format!(
                "'{text}' is not a place in an object store (s3://bucket/prefix): {why}"
            ))
        };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| invalid("only s3:// is supported"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_of_bucket = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(is_of_bucket) {
            return Err(invalid("the name of a bucket has 3 to 63 lowercase letters, digits, '-' and '.'"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_of_prefix = |c: char| c.is_ascii_alphanumeric() || "-_.=+@".contains(c);
        let is_part =
            |part: &str| part != "." && part != ".." && !part.is_empty() && part.chars().all(is_of_prefix);
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            return Err(invalid(
                "the parts of a prefix have letters, digits and '-_.=+@', with one '/' between them",
            ));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_joined_and_shown() {
        let place: S3Uri = "s3://bucket/a/b/".parse().unwrap();
        assert_eq!((place.bucket(), &*place.to_string()), ("bucket", "s3://bucket/a/b"));
        assert_eq!(place.join("c/d").to_string(), "s3://bucket/a/b/c/d");
        let (parent, name) = place.parent_and_name().unwrap();
        assert_eq!((&*parent.to_string(), name), ("s3://bucket/a", "b"));
        let whole: S3Uri = "s3://bucket".parse().unwrap();
        assert_eq!((whole.parent_and_name(), &*whole.join("a").to_string()), (None, "s3://bucket/a"));
        assert_eq!(whole.join("a").parent_and_name(), Some((whole, "a")));
    }

    #[test]
    fn what_is_no_place_in_a_bucket_is_refused_with_the_reason() {
        for (text, why) in [
            ("gs://bucket/a", "only s3:// is supported"),
            ("s3://", "the name of a bucket has"),
            ("s3://Bucket", "the name of a bucket has"),
            ("s3://key:secret@bucket", "the name of a bucket has"),
            ("s3://bucket//a", "the parts of a prefix"),
            ("s3://bucket/a/../b", "the parts of a prefix"),
            ("s3://bucket/a?b", "the parts of a prefix"),
        ] {
            let error = text.parse::<S3Uri>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}' is not a place")) && error.contains(why), "{error}");
        }
        assert!(!S3Uri::is_meant_by("/mnt/store") && S3Uri::is_meant_by("s3:///"));
    }
}
