//! Instantiation (Core 4.5.4): globals, tables, element segments, data segments, in that order. The start function is
//! the caller's.

use crate::instance::Instance;
use dunlin_format::hostcalls::Trap;
use dunlin_format::module::{Data, Element, SegmentMode};
use dunlin_format::types::Value;

/// Initialises a new instance. On a trap it stays as far initialised as it was (other instances can't see it).
pub(crate) fn instantiate(instance: &mut Instance) -> Result<(), Trap> {
    let module = &instance.program.module;
    for (index, global) in (0..).zip(&module.globals) {
        let value = instance.constant(&global.init);
        instance.set_global(index, value);
    }
    for (index, table) in (0..).zip(&module.tables) {
        let entry = instance.program.entry(instance.constant(&table.init));
        if let Some(elements) = instance.table_mut(index) {
            elements.fill(entry);
        }
    }
    for (index, element) in (0..).zip(&module.elements) {
        match &element.mode {
            SegmentMode::Active(table, offset) => {
                let offset = address(instance.constant(offset));
                table_init(instance, *table, index, offset, 0, element.items.len() as u64)?;
                instance.dropped_elements[index as usize] = true;
            }
            SegmentMode::Passive => {}
            SegmentMode::Declared => instance.dropped_elements[index as usize] = true,
        }
    }
    for (index, data) in (0..).zip(&module.data) {
        if let SegmentMode::Active(memory, offset) = &data.mode {
            let offset = address(instance.constant(offset));
            memory_init(
                instance,
                *memory,
                index,
                offset,
                0,
                data.bytes.end.saturating_sub(data.bytes.start),
            )?;
            instance.dropped_data[index as usize] = true;
        }
    }
    Ok(())
}

/// An offset expression's value as an unsigned address.
fn address(value: Value) -> u64 {
    value.to_bits() as u64
}

/// `table.init`: copies `len` elements of a segment from `src` to a table at `dst`.
pub(crate) fn table_init(
    instance: &mut Instance,
    table: u32,
    segment: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<(), Trap> {
    let program = instance.program;
    let items: &[_] = match program.module.elements.get(segment as usize) {
        Some(Element { items, .. }) if !instance.dropped_elements[segment as usize] => items,
        _ => &[],
    };
    let items = range(items.len(), src, len)
        .and_then(|r| items.get(r))
        .ok_or(Trap::TableOutOfBounds)?;
    let entries: Vec<_> = items
        .iter()
        .map(|item| program.entry(instance.constant(item)))
        .collect();
    let table = instance.table_mut(table).ok_or(Trap::TableOutOfBounds)?;
    let place = range(table.len(), dst, len)
        .and_then(|r| table.get_mut(r))
        .ok_or(Trap::TableOutOfBounds)?;
    place.copy_from_slice(&entries);
    Ok(())
}

/// `table.copy`: copies `len` elements, as if through a buffer.
pub(crate) fn table_copy(
    instance: &mut Instance,
    to: u32,
    from: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<(), Trap> {
    let source = instance.tables().get(from as usize).ok_or(Trap::TableOutOfBounds)?;
    let entries = range(source.len(), src, len)
        .and_then(|r| source.get(r))
        .ok_or(Trap::TableOutOfBounds)?
        .to_vec();
    let table = instance.table_mut(to).ok_or(Trap::TableOutOfBounds)?;
    let place = range(table.len(), dst, len)
        .and_then(|r| table.get_mut(r))
        .ok_or(Trap::TableOutOfBounds)?;
    place.copy_from_slice(&entries);
    Ok(())
}

/// `table.fill`: sets `len` elements from `at` on.
pub(crate) fn table_fill(instance: &mut Instance, table: u32, at: u64, value: Value, len: u64) -> Result<(), Trap> {
    let entry = instance.program.entry(value);
    let table = instance.table_mut(table).ok_or(Trap::TableOutOfBounds)?;
    let place = range(table.len(), at, len)
        .and_then(|r| table.get_mut(r))
        .ok_or(Trap::TableOutOfBounds)?;
    place.fill(entry);
    Ok(())
}

/// `memory.init`: copies `len` bytes of a data segment from `src` to `dst`.
pub(crate) fn memory_init(
    instance: &mut Instance,
    memory: u32,
    segment: u32,
    dst: u64,
    src: u64,
    len: u64,
) -> Result<(), Trap> {
    let program = instance.program;
    let all = program.image().data();
    let bytes: &[u8] = match program.module.data.get(segment as usize) {
        Some(Data { bytes, .. }) if !instance.dropped_data[segment as usize] => {
            all.get(bytes.start as usize..bytes.end as usize).unwrap_or_default()
        }
        _ => &[],
    };
    let bytes = range(bytes.len(), src, len)
        .and_then(|r| bytes.get(r))
        .ok_or(Trap::MemoryOutOfBounds)?;
    let memory = instance
        .memory_at_mut(memory)
        .ok_or(Trap::MemoryOutOfBounds)?
        .bytes_mut();
    let place = range(memory.len(), dst, len)
        .and_then(|r| memory.get_mut(r))
        .ok_or(Trap::MemoryOutOfBounds)?;
    place.copy_from_slice(bytes);
    Ok(())
}

/// `at .. at + len`, if that lies in `0 .. size`.
fn range(size: usize, at: u64, len: u64) -> Option<std::ops::Range<usize>> {
    let end = at.checked_add(len)?;
    (end <= size as u64).then_some(at as usize..end as usize)
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_end_where_their_object_does() {
        assert_eq!(range(4, 1, 3), Some(1..4));
        assert_eq!(range(4, 4, 0), Some(4..4));
        assert_eq!(range(4, 5, 0), None);
        assert_eq!(range(4, 2, 3), None);
        assert_eq!(range(4, u64::MAX, 2), None);
    }
}
