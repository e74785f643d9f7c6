impl Node {
    fn text(&self) -> String {
        let shape = match self.kind {
            None | Some(Kind::TooLarge) => String::new(),
            Some(Kind::Leaf(name)) => name.to_owned(),
            Some(Kind::Option) => format!("option<{}>", self.texts().join(",")),
            Some(Kind::Seq) => format!("seq<{}>", self.texts().join(",")),
            Some(Kind::Map) => format!("map<{}>", self.texts().join(",")),
            Some(Kind::Tuple(len)) => self.tuple(len),
            Some(Kind::Struct(names)) => format!("struct{{{}}}", self.fields(names)),
            Some(Kind::Enum(names)) => format!("enum{{{}}}", self.variants(names)),
            Some(Kind::Rec(levels)) => format!("rec({levels})"),
        };
        match (shape.as_str(), self.refused_by.map(readable)) {
            ("", None) => "?".to_owned(),
            (_, None) => shape,
            ("", Some(name)) => format!("opaque({name})"),
            (_, Some(name)) => format!("{shape}+opaque({name})"),
        }
    }

    fn texts(&self) -> Vec<String> {
        self.parts.iter().map(Node::text).collect()
    }

    fn tuple(&self, len: usize) -> String {
        let mut texts = self.texts();
        if len > TUPLE_WRITTEN_OUT && texts.len() == len && texts.iter().all(|text| *text == texts[0]) {
            return format!("[{};{len}]", texts[0]);
        }
        texts.resize(len, "?".to_owned());
        format!("({})", texts.join(","))
    }

    /// The fields with their names. With `#[serde(alias)]` there are more names than fields, and nothing tells which name
    /// is whose: all of them come first.
    fn fields(&self, names: &[&str]) -> String {
        let mut texts = self.texts();
        if texts.len() < names.len() && !self.dead {
            return format!("{}:{}", names.join("|"), texts.join(","));
        }
        texts.resize(names.len(), "?".to_owned());
        let fields: Vec<_> = names.iter().zip(texts).map(|(name, text)| format!("{name}:{text}")).collect();
        fields.join(",")
    }

    /// The variants with their names; as for fields, with aliases all names come first.
    fn variants(&self, names: &[&str]) -> String {
        let aliased = self.parts.len() < names.len();
        let name = |index: usize| if aliased { "_" } else { names[index] };
        let variants: Vec<_> = self.parts.iter().enumerate().map(|(i, part)| part.variant(name(i))).collect();
        let all_names = if aliased { names.join("|") + ":" } else { String::new() };
        all_names + &variants.join(",")
    }

    fn variant(&self, name: &str) -> String {
        let text = self.text();
        match self.kind {
            Some(Kind::Tuple(0)) => format!("{name}{}", text.trim_start_matches("()")),
            Some(Kind::Struct(_)) => format!("{name}{}", text.trim_start_matches("struct")),
            Some(Kind::Tuple(_)) if text.starts_with('(') => format!("{name}{text}"),
            // A tuple written as an array, or a variant that was never seen.
            _ => format!("{name}({text})"),
        }
    }
}
