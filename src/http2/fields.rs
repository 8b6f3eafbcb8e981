//! The fields of a head, as they come.

use bytes::Bytes;

/// What each field counts beyond its bytes (RFC 9113, section 10.5.1).
const OVERHEAD: usize = 32;

/// A list of fields in one piece of memory.
#[derive(Debug, Default, Clone)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// As RFC 9113 counts it.
    size: usize,
    max: usize,
}

/// Where a field is: its value follows its name.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    name_end: u32,
    end: u32,
    never: bool,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Its name; those of a request or a response itself begin with a colon.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// It must not be added to a table on its way (RFC 7541, section 7.1.3).
    pub never: bool,
}

impl Fields {
    /// For up to so many bytes, as RFC 9113 counts them. What is beyond is not kept.
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::with_capacity(256), spans: Vec::with_capacity(16), size: 0, max }
    }

    /// More has come than there may be.
    pub(super) fn are_too_large(&self) -> bool {
        self.size > self.max
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn add(&mut self, name: &[u8], value: &[u8], never: bool) {
        let size = self.size.saturating_add(name.len() + value.len() + OVERHEAD);
        if size > self.max {
            self.size = size;
            return;
        }
        let mut field = self.begin();
        field.bytes().extend_from_slice(name);
        field.name_ends();
        field.bytes().extend_from_slice(value);
        field.end(never);
    }

    /// Begins one whose name and value are written in place.
    pub(super) fn begin(&mut self) -> Writing<'_> {
        let start = self.bytes.len();
        Writing { fields: self, start, name_end: start }
    }

    pub(super) fn get(&self, index: usize) -> Option<Field<'_>> {
        self.spans.get(index).map(|span| self.field(span))
    }

    fn field(&self, span: &Span) -> Field<'_> {
        let at = |from: u32, to: u32| &self.bytes[from as usize..to as usize];
        Field { name: at(span.start, span.name_end), value: at(span.name_end, span.end), never: span.never }
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.spans.iter().map(|span| self.field(span))
    }

    /// Calls `each` with the name, the value and whether it must not be added to a table, of all but the `first`. The
    /// values share the memory.
    pub(super) fn share<E>(
        self,
        first: usize,
        mut each: impl FnMut(&[u8], Bytes, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = Bytes::from(self.bytes);
        self.spans.iter().skip(first).try_for_each(|span| {
            let name = &bytes[span.start as usize..span.name_end as usize];
            each(name, bytes.slice(span.name_end as usize..span.end as usize), span.never)
        })
    }
}

/// A field that is being written.
pub(super) struct Writing<'a> {
    fields: &'a mut Fields,
    start: usize,
    name_end: usize,
}

impl Writing<'_> {
    /// Where to append the name, then the value.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.fields.bytes
    }

    /// What follows is the value.
    pub(super) fn name_ends(&mut self) {
        self.name_end = self.fields.bytes.len();
    }

    /// Name and value, and the length of the name.
    pub(super) fn written(&self) -> (&[u8], usize) {
        (&self.fields.bytes[self.start..], self.name_end - self.start)
    }

    /// Keeps it, if there is room.
    pub(super) fn end(self, never: bool) {
        let Self { fields, start, name_end } = self;
        let end = fields.bytes.len();
        fields.size = fields.size.saturating_add(end - start + OVERHEAD);
        let spans = [start, name_end, end].map(u32::try_from);
        if let (false, [Ok(start), Ok(name_end), Ok(end)]) = (fields.are_too_large(), spans) {
            fields.spans.push(Span { start, name_end, end, never });
        } else {
            fields.bytes.truncate(start);
        }
    }
}
