//! Element and data segments.

use super::{const_expr, features};
use crate::error::Error;
use dunlin_format::module::{ConstExpr, Data, Element, SegmentMode};
use dunlin_format::types::ValType;
use wasmparser::{DataKind, DataSectionReader, ElementItems, ElementKind, ElementSectionReader};

/// The segments of the element section.
pub(super) fn elements(section: ElementSectionReader<'_>) -> Result<Vec<Element>, Error> {
    let mut elements = Vec::with_capacity(section.count() as usize);
    for element in section {
        let element = element?;
        let offset = element.range.start;
        let mode = match element.kind {
            ElementKind::Active {
                table_index,
                offset_expr,
            } => SegmentMode::Active(table_index.unwrap_or(0), const_expr::read(&offset_expr, offset)?),
            ElementKind::Passive => SegmentMode::Passive,
            ElementKind::Declared => SegmentMode::Declared,
        };
        let (ty, items) = match element.items {
            ElementItems::Functions(funcs) => {
                let items: Result<_, Error> = funcs.into_iter().map(|f| Ok(ConstExpr::RefFunc(f?))).collect();
                (ValType::FuncRef, items?)
            }
            ElementItems::Expressions(ty, exprs) => {
                let ty = features::element_type(ty, offset)?;
                let items: Result<_, Error> = exprs.into_iter().map(|e| const_expr::read(&e?, offset)).collect();
                (ty, items?)
            }
        };
        elements.push(Element { mode, ty, items });
    }
    Ok(elements)
}

/// The segments of the data section, whose contents start at byte `start` of the binary. Ranges are relative to that.
pub(super) fn data(section: DataSectionReader<'_>, start: usize) -> Result<Vec<Data>, Error> {
    let mut segments = Vec::with_capacity(section.count() as usize);
    for segment in section {
        let segment = segment?;
        let mode = match segment.kind {
            DataKind::Active {
                memory_index,
                offset_expr,
            } => SegmentMode::Active(memory_index, const_expr::read(&offset_expr, segment.range.start)?),
            DataKind::Passive => SegmentMode::Passive,
        };
        let end = (segment.range.end - start) as u64;
        segments.push(Data {
            mode,
            bytes: end - segment.data.len() as u64..end,
        });
    }
    Ok(segments)
}
