//! The tree of values that both file formats are read into, and typed access to it.
//!
//! xgboost writes the same thing in several ways: a number as `5`, as `"5"` or as `"5E-1"`, a bool as `true` or as
//! `1`, an array of numbers with or without a type. The accessors here take them all, so that `read` need not know.

use crate::error::Fault;

/// One value of a JSON or UBJSON file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Value>),
    /// An array of one numeric type, as UBJSON has them: an eighth of the memory of `Array`, or less.
    Numbers(Vec<f64>),
    Object(Vec<(String, Value)>),
}

/// A value together with the place where it stands in the file, for error messages.
pub(crate) struct At<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    pub(crate) fn root(value: &'a Value) -> At<'a> {
        At { value, path: String::new() }
    }

    /// The member of an object, which must be there.
    pub(crate) fn get(&self, key: &str) -> Result<At<'a>, Fault> {
        self.find(key).ok_or_else(|| Fault::corrupt(format!("{} is missing", self.path_of(key))))
    }

    /// The member of an object, if it is there.
    pub(crate) fn find(&self, key: &str) -> Option<At<'a>> {
        let Value::Object(members) = self.value else { return None };
        let (_, value) = members.iter().find(|(name, _)| name == key)?;
        Some(At { value, path: self.path_of(key) })
    }

    /// The elements of an array of anything.
    pub(crate) fn items(&self) -> Result<impl Iterator<Item = At<'a>> + use<'a>, Fault> {
        let Value::Array(items) = self.value else { return Err(self.is_not("an array")) };
        let path = self.path.clone();
        let at = move |(k, value)| At { value, path: format!("{path}[{k}]") };
        Ok(items.iter().enumerate().map(at))
    }

    pub(crate) fn text(&self) -> Result<&'a str, Fault> {
        match self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.is_not("a text")),
        }
    }

    /// A whole number, zero or more.
    pub(crate) fn size(&self) -> Result<usize, Fault> {
        let size = whole(self.value).and_then(|n| usize::try_from(n).ok());
        size.ok_or_else(|| self.is_not("a whole number, zero or more"))
    }

    /// An array of whole numbers (a bool counts as 0 or 1).
    pub(crate) fn integers(&self) -> Result<Vec<i64>, Fault> {
        self.collect(whole, "an array of whole numbers")
    }

    /// An array of f32.
    pub(crate) fn floats(&self) -> Result<Vec<f32>, Fault> {
        self.collect(|value| float(value).map(|x| x as f32), "an array of numbers")
    }

    /// An error about this value: `what` completes the sentence "<path> ...".
    pub(crate) fn fault(&self, what: impl std::fmt::Display) -> Fault {
        Fault::corrupt(format!("{} {what}", self.path))
    }

    fn collect<T>(&self, take: impl Fn(&Value) -> Option<T>, kind: &str) -> Result<Vec<T>, Fault> {
        let taken: Option<Vec<T>> = match self.value {
            Value::Array(items) => items.iter().map(take).collect(),
            Value::Numbers(numbers) => numbers.iter().map(|&n| take(&Value::Number(n))).collect(),
            _ => None,
        };
        taken.ok_or_else(|| self.is_not(kind))
    }

    fn is_not(&self, kind: &str) -> Fault {
        self.fault(format_args!("is not {kind}"))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path) }
    }
}

/// Numbers as they are or as text; "NaN" and "Infinity" too. A text is taken as the f32 that xgboost wrote.
fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.parse::<f32>().ok().map(f64::from),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(bool) => Some(i64::from(*bool)),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 2f64.powi(53) => {
            Some(*number as i64)
        }
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}
