//! Protobuf: a record is one message, and a descriptor says what its fields are.
//!
//! A Rust type takes part by serde: a message is a struct with the fields' names as they stand in the .proto file, and an enum is the
//! name of its value. Not in the JSON mapping of Protobuf, which has bytes as Base64 and a NaN as text.

mod de;
mod ser;

use std::collections::BTreeMap;
use std::path::Path;

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_protocol::{Error, ErrorContext, Result as JobResult};

use de::MessageDeserializer;

/// What a .proto file is called that has no name.
const MAIN: &str = "__main.proto";

/// A message type of Protobuf, with all that it consists of.
#[derive(Clone)]
pub struct ProtobufSchema {
    message: MessageDescriptor,
    /// The .proto file that it was compiled from.
    text: Option<String>,
}

impl ProtobufSchema {
    /// A message type, by its full name, of a .proto file, which may import `google/protobuf/...` and no others.
    ///
    /// ```
    /// use tidegate_connectors::ProtobufSchema;
    ///
    /// let text = r#"
    ///     syntax = "proto3";
    ///     package plant;
    ///     message Reading { string device = 1; double celsius = 2; }
    /// "#;
    /// let schema = ProtobufSchema::parse(text, "plant.Reading")?;
    /// # let _ = schema;
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    ///
    /// # Errors
    /// If it does not compile, or has no such message.
    pub fn parse(text: &str, message: &str) -> JobResult<Self> {
        let file = ProtobufFile::compile(text, &[]).map_err(Error::job)?;
        let found = of_name(&file.pool, message)?;
        Ok(Self { message: found, text: Some(text.to_owned()) })
    }

    /// A message type, by its full name, of what `protoc --descriptor_set_out=FILE --include_imports` writes.
    ///
    /// # Errors
    /// If that is not a descriptor set, or has no such message.
    pub fn decode(descriptor_set: &[u8], message: &str) -> JobResult<Self> {
        let pool = DescriptorPool::decode(descriptor_set).map_err(|error| {
            Error::job(format!(
                "it is not a descriptor set of Protobuf with all imports: {error}. Make it by  protoc --include_imports \
                 --descriptor_set_out=FILE"
            ))
        })?;
        Ok(Self { message: of_name(&pool, message)?, text: None })
    }

    /// The same from a file.
    ///
    /// # Errors
    /// If it cannot be read, too.
    pub fn load(path: impl AsRef<Path>, message: &str) -> JobResult<Self> {
        let path = path.as_ref();
        let of_file = || format!("the Protobuf descriptors in {}", path.display());
        let bytes = std::fs::read(path).context(of_file)?;
        Self::decode(&bytes, message).map_err(|error| error.context(of_file()))
    }

    /// The message type's full name.
    pub fn name(&self) -> &str {
        self.message.full_name()
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    pub(crate) fn of(message: MessageDescriptor) -> Self {
        Self { message, text: None }
    }

    /// Where the message type stands in its file: its number there, or those of the messages around it and its own.
    pub(crate) fn indexes(&self) -> Vec<usize> {
        let own = self.message.path().iter();
        // A path is pairs of a field of the descriptor and a number in it.
        own.skip(1).step_by(2).map(|index| usize::try_from(*index).unwrap_or(0)).collect()
    }

    /// Reads a message, which is all of the bytes.
    pub(crate) fn message(&self, bytes: &[u8]) -> Result<DynamicMessage, String> {
        DynamicMessage::decode(self.message.clone(), bytes)
            .map_err(|error| format!("it is not a message {}: {error}", self.name()))
    }

    /// Reads a message as a `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, String> {
        T::deserialize(MessageDeserializer(&self.message(bytes)?)).map_err(|error| {
            format!("a message {} does not fit the type {}: {error}", self.name(), std::any::type_name::<T>())
        })
    }

    /// Appends a record as a message.
    pub(crate) fn write<T: Serialize>(&self, record: &T, out: &mut Vec<u8>) -> Result<(), String> {
        let value = serde_value::to_value(record).map_err(|error| error.to_string())?;
        let message = ser::message(value, &self.message)?;
        message.encode(out).map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for ProtobufSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProtobufSchema({})", self.name())
    }
}

fn of_name(pool: &DescriptorPool, message: &str) -> JobResult<MessageDescriptor> {
    pool.get_message_by_name(message).ok_or_else(|| {
        let there: Vec<_> = pool.all_messages().map(|message| message.full_name().to_owned()).collect();
        Error::job(format!("there is no message {message} in it, only {}", there.join(", ")))
    })
}

/// A .proto file that was compiled with what it imports.
#[derive(Debug)]
pub(crate) struct ProtobufFile {
    pool: DescriptorPool,
}

impl ProtobufFile {
    /// Compiles a file, which may import those others by their names, and `google/protobuf/...`.
    pub(crate) fn compile(text: &str, others: &[(&str, &str)]) -> Result<Self, String> {
        let mut files = BTreeMap::from([(MAIN, text)]);
        files.extend(others.iter().copied());
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        match compiler.open_file(MAIN) {
            Ok(compiler) => Ok(Self { pool: compiler.descriptor_pool() }),
            Err(error) => Err(format!("it is not a .proto file that compiles: {error}")),
        }
    }

    #[cfg(test)]
    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The message type at these indexes: that of the file, then those of the messages in it.
    pub(crate) fn at(&self, indexes: &[usize]) -> Option<ProtobufSchema> {
        let file = self.pool.get_file_by_name(MAIN)?;
        let (first, inner) = indexes.split_first()?;
        let outer = file.messages().nth(*first)?;
        let found = inner.iter().try_fold(outer, |outer, index| outer.child_messages().nth(*index));
        found.map(ProtobufSchema::of)
    }
}

/// Files that are known by their names.
struct Texts(BTreeMap<String, String>);

impl FileResolver for Texts {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

#[cfg(test)]
mod tests;
