//! The commented configuration file with every key and its default: `tidegate config --default`, and `cli/tidegate.toml`.

use std::fmt::{self, Display};

use super::keys::{self, AnyKey, Default};

const HEAD: &str = "\
# The configuration of Tidegate: every key, with its default. A process reads the file of --config, or that of the environment
# variable TIDEGATE_CONFIG, or ./tidegate.toml, or /etc/tidegate/tidegate.toml. The environment variable
# behind a key outweighs the file, and a flag the variable. 'tidegate config' shows what is in force, and where it comes from.
# Relative paths start at the current directory of the process.
";

/// The file.
pub(crate) struct DefaultFile;

impl Display for DefaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        let mut section = "";
        for key in keys::ALL {
            let of = key.parts().0;
            if of != section {
                write!(f, "\n[{of}]\n")?;
                section = of;
            }
            write_key(f, *key)?;
        }
        Ok(())
    }
}

/// A key that is not set: there is no blank behind its `#`, as there is in comments.
fn write_key(f: &mut fmt::Formatter<'_>, key: &dyn AnyKey) -> fmt::Result {
    f.write_str("\n")?;
    for line in key.doc().lines() {
        writeln!(f, "#{line}")?;
    }
    let value = match key.default() {
        Default::Is(value) => value,
        Default::Found { words, example, .. } => {
            writeln!(f, "# The default is {words}.")?;
            example
        }
        Default::None { example } => {
            writeln!(f, "# There is no default; an example:")?;
            example
        }
    };
    let (name, variable) = (key.parts().1, key.variable());
    match value.parse::<u32>() {
        Ok(number) => writeln!(f, "#{name} = {number} # or {variable}"),
        Err(_) => writeln!(f, "#{name} = {value:?} # or {variable}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_commented_file_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tidegate.toml");
        let is_there = std::fs::read_to_string(path).unwrap();
        assert!(
            is_there == DefaultFile.to_string(),
            "repair it by: tidegate config --default > cli/tidegate.toml"
        );
    }

    #[test]
    fn the_commented_file_is_a_valid_one_when_its_keys_are_set() {
        let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
        let uncommented = |line: &str| if is_key(line) { line[1..].to_owned() } else { line.to_owned() };
        let text: Vec<String> = DefaultFile.to_string().lines().map(uncommented).collect();
        let lines = super::super::file::parse(Path::new("tidegate.toml"), &text.join("\n")).unwrap();
        assert_eq!(lines.len(), keys::ALL.len());
    }
}
