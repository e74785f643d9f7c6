/// The parts of a place, one after the other.
struct Parts<'a> {
    node: &'a mut Node,
    run: &'a mut Run,
    next: usize,
    count: usize,
}

impl Parts<'_> {
    fn fill_next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.next += 1;
        self.node.part(self.next - 1).fill(self.run, seed)
    }
}

impl<'de> de::SeqAccess<'de> for Parts<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if self.next == self.count { Ok(None) } else { self.fill_next(seed).map(Some) }
    }
}

/// The fields of a struct by their numbers, without the dead ones.
struct Fields<'a>(Parts<'a>);

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Parts { node, next, count, .. } = &mut self.0;
        while *next < *count && node.part(*next).dead {
            *next += 1;
        }
        if *next == *count { Ok(None) } else { seed.deserialize(number(*next)).map(Some) }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.0.fill_next(seed)
    }
}

/// The one entry of a map.
struct Entry<'a>(Parts<'a>);

impl<'de> de::MapAccess<'de> for Entry<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        de::SeqAccess::next_element_seed(&mut self.0, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.0.fill_next(seed)
    }

    /// As the other two, but looks at the value of a dead key as well.
    fn next_entry_seed<K: DeserializeSeed<'de>, V: DeserializeSeed<'de>>(
        &mut self,
        key: K,
        value: V,
    ) -> Result<Option<(K::Value, V::Value)>, Refused> {
        let key = self.next_key_seed(key);
        if key.is_err() && self.0.node.part(0).dead {
            drop(self.next_value_seed(value)?);
            return Err(Refused);
        }
        key?.map(|key| Ok((key, self.next_value_seed(value)?))).transpose()
    }
}

impl<'a, 'de> de::EnumAccess<'de> for Probe<'a> {
    type Error = Refused;
    type Variant = Variant<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Variant<'a>), Refused> {
        let Probe { node, run } = self;
        let index = node.choose(run).ok_or(Refused)?;
        let Ok(tag) = seed.deserialize(number(index)) else {
            // There are no more variants: some of the names are aliases.
            node.parts.truncate(index);
            run.news += 1;
            return Err(Refused);
        };
        Ok((tag, Variant(Probe { node: &mut node.parts[index], run })))
    }
}

fn number(index: usize) -> U32Deserializer<Refused> {
    (index as u32).into_deserializer()
}

/// The content of a variant.
struct Variant<'a>(Probe<'a>);

impl Variant<'_> {
    fn attempt<R>(
        self,
        kind: Kind,
        type_name: &'static str,
        go: impl FnOnce(Probe<'_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        let Probe { node, run } = self.0;
        node.attempt(run, type_name, |probe| {
            probe.node.open(probe.run, kind)?;
            go(probe)
        })
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        self.attempt(Kind::Tuple(0), "()", |_| Ok(()))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        let go = |probe: Probe<'_>| probe.node.part(0).fill(probe.run, seed);
        self.attempt(Kind::Tuple(1), type_name::<S::Value>(), go)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>| probe.visit_parts(len, visitor);
        self.attempt(Kind::Tuple(len), type_name::<V::Value>(), go)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let go = |probe: Probe<'_>| probe.visit_fields(fields.len(), visitor);
        self.attempt(Kind::Struct(fields), type_name::<V::Value>(), go)
    }
}
