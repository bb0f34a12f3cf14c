//! A row of the file: consecutive records of one partition that arrived together.

use bytes::{BufMut, Bytes, BytesMut};
use schemas::{Arrived, Offset};

use crate::Record;

/// Blob: per record, the key's and the value's length as `u32` little endian, then both.
#[derive(Clone, Debug)]
pub struct Row {
    pub base: Offset,
    pub count: u32,
    pub arrived_at: Arrived,
    pub blob: Bytes,
}

impl Row {
    pub const fn end(&self) -> Offset {
        Offset(self.base.0 + self.count as i64)
    }

    pub fn from_sql(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { base: Offset(row.get(0)?), count: row.get(1)?, arrived_at: Arrived(row.get(2)?), blob: row.get::<_, Vec<u8>>(3)?.into() })
    }

    /// Adds the records from `from` on; they share the blob's memory.
    pub fn decode(&self, from: Offset, into: &mut Vec<Record>) -> Result<(), String> {
        let mut at = 0;
        for i in 0..i64::from(self.count) {
            let length = |at: usize| self.blob.get(at..at + 4).and_then(|four| four.try_into().ok()).map(|four| u32::from_le_bytes(four) as usize);
            let (Some(key), Some(value)) = (length(at), length(at + 4)) else { return Err(self.damaged()) };
            let (start, middle, end) = (at + 8, at + 8 + key, at + 8 + key + value);
            if end > self.blob.len() {
                return Err(self.damaged());
            }
            if self.base.0 + i >= from.0 {
                into.push(Record {
                    offset: Offset(self.base.0 + i),
                    arrived_at: self.arrived_at,
                    key: self.blob.slice(start..middle),
                    value: self.blob.slice(middle..end),
                });
            }
            at = end;
        }
        Ok(())
    }

    fn damaged(&self) -> String {
        format!("the row at offset {} is damaged: restore the file from a backup", self.base)
    }
}

pub fn encode(blob: &mut BytesMut, key: &[u8], value: &[u8]) {
    blob.reserve(8 + key.len() + value.len());
    blob.put_u32_le(key.len() as u32);
    blob.put_u32_le(value.len() as u32);
    blob.put_slice(key);
    blob.put_slice(value);
}
