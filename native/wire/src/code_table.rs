//! The kernels of a module or library, as they travel with the reply to its load: which names there are, and what is
//! known of each. With it a client makes handles for kernels, launches them and answers about them without asking.

use crate::codec::{Reader, Writer};
use crate::cuda::{AttributeValue, ParameterInfo};

/// All kernels of a loaded image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodeTable {
    /// In the driver's order.
    pub kernels: Vec<KernelEntry>,
}

/// One kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelEntry {
    /// Its name, without NUL.
    pub name: Vec<u8>,
    /// What is known of it; `None` in images so large that describing all kernels would load what nobody uses.
    pub described: Option<Description>,
}

/// What is known of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// The `CUresult` of looking it up: a kernel can be there and not be executable.
    pub result: i32,
    /// Its attributes.
    pub attributes: Vec<AttributeValue>,
    /// Where its parameters lie.
    pub parameters: Vec<ParameterInfo>,
}

/// Bytes that an entry takes at least.
const SMALLEST_ENTRY: usize = 9;

impl CodeTable {
    /// Appends the table.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        put_count(writer, self.kernels.len());
        for kernel in &self.kernels {
            writer.put_bytes(&kernel.name);
            writer.put_u8(u8::from(kernel.described.is_some()));
            let Some(described) = &kernel.described else { continue };
            writer.put_i32(described.result);
            put_count(writer, described.attributes.len());
            for attribute in &described.attributes {
                writer.put_i32(attribute.attribute);
                writer.put_i32(attribute.value);
            }
            put_count(writer, described.parameters.len());
            for parameter in &described.parameters {
                writer.put_u64(parameter.offset);
                writer.put_u64(parameter.size);
            }
        }
    }

    /// Takes a table; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        let count = reader.take_count(SMALLEST_ENTRY);
        let kernels = (0..count).map(|_| KernelEntry {
            name: reader.take_bytes().to_vec(),
            described: (reader.take_u8() != 0).then(|| Description::decode(reader)),
        });
        CodeTable { kernels: kernels.collect() }
    }
}

impl Description {
    fn decode(reader: &mut Reader<'_>) -> Self {
        let result = reader.take_i32();
        let count = reader.take_count(AttributeValue::SIZE);
        let attributes = (0..count)
            .map(|_| AttributeValue { attribute: reader.take_i32(), value: reader.take_i32() })
            .collect();
        let count = reader.take_count(ParameterInfo::SIZE);
        let parameters = (0..count)
            .map(|_| ParameterInfo { offset: reader.take_u64(), size: reader.take_u64() })
            .collect();
        Description { result, attributes, parameters }
    }
}

fn put_count(writer: &mut Writer<'_>, count: usize) {
    writer.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CallId;

    #[test]
    fn a_table_round_trips_and_no_truncation_passes() {
        let described = Description {
            result: 801,
            attributes: vec![AttributeValue { attribute: 8, value: 49152 }],
            parameters: vec![ParameterInfo { offset: 8, size: 4 }],
        };
        let table = CodeTable {
            kernels: vec![
                KernelEntry { name: b"first".to_vec(), described: Some(described) },
                KernelEntry { name: b"second".to_vec(), described: None },
            ],
        };
        let mut bytes = Vec::new();
        table.encode(&mut Writer::new(&mut bytes));
        let mut reader = Reader::new(&bytes);
        assert_eq!(CodeTable::decode(&mut reader), table);
        assert_eq!(reader.finish(CallId::HELLO), Ok(()));
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            let _ = CodeTable::decode(&mut reader);
            assert!(reader.finish(CallId::HELLO).is_err(), "{length} bytes were accepted");
        }
    }
}
