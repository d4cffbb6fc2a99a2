//! Builds an image: a linked text with its metadata, symbols and unwind information.

use crate::error::Error;
use crate::module::Module;
use crate::native::compiled_function::CompiledFunction;
use crate::native::link;
use crate::settings::Settings;
use cranelift_codegen::isa::unwind::UnwindInfo;
use dunlin_format::arch::Arch;
use dunlin_format::framemap::{CodeBuilder, FunctionCode, FunctionPoints, PointsBuilder};
use dunlin_format::image::{ImageBuilder, META_ADDR, NamesBuilder, TEXT_ADDR};

/// One module for one architecture, ready to be written as an executable or an object.
#[derive(Clone, Debug)]
pub struct LinkedImage {
    /// The architecture of its code.
    pub arch: Arch,
    /// The program's name, its `argv[0]`.
    pub(crate) name: String,
    /// The code. Independent of its position.
    pub(crate) text: Vec<u8>,
    /// The metadata, as [`dunlin_format::image::Image`] reads it.
    pub(crate) meta: Vec<u8>,
    /// Every code index's symbol, in that order, which is also that of their places.
    pub(crate) symbols: Vec<Symbol>,
    /// Unwind information, with the text offset of the function it describes, ascending.
    pub(crate) unwind: Vec<(u32, UnwindInfo)>,
}

/// A function in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// What it is called: the function's name, or one that tells what the code is.
    pub name: String,
    /// Byte offset in the text.
    pub start: u32,
    /// Size of its code in bytes; 0 for a trampoline that nothing is entered through.
    pub len: u32,
}

/// Builds one image per target from the module's compiled functions (one per code index). `names` keeps function names
/// in the image; without, backtraces and snapshots show indices only.
pub(crate) fn build(
    module: &Module<'_>,
    settings: &Settings,
    functions: &[CompiledFunction],
    names: bool,
) -> Result<Vec<LinkedImage>, Error> {
    let mut points = PointsBuilder::new();
    for function in functions {
        check_points(&function.points).map_err(|message| Error::internal(function.code_index, message))?;
        points.push(&function.points);
    }
    let points = points.finish();
    let mut name_section = NamesBuilder::new();
    for func in 0..module.num_funcs() {
        name_section.push(module.func_name(func).filter(|_| names));
    }
    let name_section = name_section.finish();

    let mut info = module.info.clone();
    for function in functions {
        info.needs.function_table |= function.needs.function_table;
        info.needs.tail_calls |= function.needs.tail_calls;
    }

    let one = |&arch: &Arch| -> Result<LinkedImage, Error> {
        let text = link::link(functions, arch)?;
        let mut code = CodeBuilder::new();
        for (index, function) in (0..).zip(&text.functions) {
            check_code(function).map_err(|message| Error::internal(index, message))?;
            code.push(function);
        }
        let builder = ImageBuilder {
            arch,
            module_hash: module.hash,
            migratable: settings.migration,
            text: &text.bytes,
            module: &info,
            data: module.data,
            names: &name_section,
            points: &points,
            code: &code.finish(),
        };
        let meta = builder.finish().map_err(|e| Error::write("the image", e))?;
        let (size, max) = (meta.len() as u64, TEXT_ADDR - META_ADDR);
        if size > max {
            return Err(Error::TooLarge {
                what: "its metadata".into(),
                size,
                max,
            });
        }
        let symbols = (0..).zip(&text.functions).map(|(i, f)| Symbol {
            name: symbol(module, i, names),
            start: f.start,
            len: f.len,
        });
        let unwind = text
            .functions
            .iter()
            .zip(&text.unwind)
            .filter_map(|(f, u)| Some((f.start, (*u)?.clone())));
        let (symbols, unwind) = (symbols.collect(), unwind.collect());
        Ok(LinkedImage {
            arch,
            name: module.info.name.clone(),
            text: text.bytes,
            meta,
            symbols,
            unwind,
        })
    };
    settings.targets.iter().map(one).collect()
}

/// A code index's symbol; without `names`, functions are called by their index.
fn symbol(module: &Module<'_>, code_index: u32, names: bool) -> String {
    if !names && module.body(code_index).is_some() {
        format!("wasm[{code_index}]")
    } else {
        module.symbol_name(code_index)
    }
}

/// What the frame maps' readers rely on. A breach is a bug in the function compiler, to be told rather than written.
fn check_points(function: &FunctionPoints) -> Result<(), String> {
    let end = |home: &dunlin_format::framemap::Home| home.offset.checked_add(home.ty.size());
    if let Some(home) = function
        .homes
        .iter()
        .find(|h| end(h).is_none_or(|end| end > function.record_size))
    {
        return Err(format!("a home lies outside of the record: {home:?}"));
    }
    if !function.points().is_sorted_by(|a, b| a.offset < b.offset) {
        return Err("migration points are not ascending".into());
    }
    for (n, point) in function.points().iter().enumerate() {
        let changes = function.changes(n);
        let known = changes.last().is_none_or(|&h| (h as usize) < function.homes.len());
        if !known || !changes.is_sorted_by(|a, b| a < b) {
            return Err(format!(
                "the live homes at {:#x} are not ascending indices",
                point.offset
            ));
        }
    }
    Ok(())
}

/// As [`check_points`], for one architecture's half.
fn check_code(function: &FunctionCode) -> Result<(), String> {
    if !function.sites.is_sorted_by(|a, b| a.text <= b.text) {
        return Err("sites are not ascending".into());
    }
    if function.sites.last().is_some_and(|s| s.text > function.len) {
        return Err("a site lies outside of the function".into());
    }
    if function.record > function.frame_to_fp {
        return Err("the record lies outside of the frame".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::compiled_function::MachineFunction;
    use dunlin_format::framemap::{Callee, Home, HomeKind, Point};
    use dunlin_format::image::Image;
    use dunlin_format::point::{PointKind, Slot};
    use dunlin_format::types::ValType;

    fn functions(count: u32) -> Vec<CompiledFunction> {
        let machine = |arch| MachineFunction {
            arch,
            bytes: vec![0; 20],
            align: 4,
            relocs: Vec::new(),
            frame_to_fp: 32,
            record: 16,
            sites: Vec::new(),
            unwind: None,
            asm: None,
        };
        let home = Home {
            kind: HomeKind::Slot(Slot::Local(0)),
            ty: ValType::I64,
            offset: 8,
        };
        let point = |offset| Point {
            offset,
            kind: PointKind::Call,
            callee: Callee::None,
        };
        let mut points = FunctionPoints::new(16, vec![home]);
        points.push(point(3), &[0]);
        points.push(point(9), &[0]);
        let one = |code_index| {
            let machine = Arch::ALL.into_iter().map(machine).collect();
            CompiledFunction {
                code_index,
                points: points.clone(),
                needs: Default::default(),
                clif: None,
                machine,
            }
        };
        (0..count).map(one).collect()
    }

    fn build_with(functions: &[CompiledFunction], names: bool) -> Result<Vec<LinkedImage>, Error> {
        let text = "(module (import \"env\" \"f\" (func (param i32))) (memory 1) (data \"hello\") (func $main) (func (param i32)))";
        let wasm = wat::parse_str(text).unwrap();
        let module = Module::parse(&wasm, "prog").unwrap();
        assert_eq!(module.num_codes(), 5);
        build(&module, &Settings::default(), functions, names)
    }

    #[test]
    fn an_image_holds_what_was_compiled() {
        let images = build_with(&functions(5), true).unwrap();
        assert_eq!(images.iter().map(|i| i.arch).collect::<Vec<_>>(), Arch::ALL);
        for linked in &images {
            let image = Image::parse(&linked.meta).unwrap();
            assert_eq!(
                (image.arch(), image.migratable(), image.text_len()),
                (linked.arch, true, 160)
            );
            assert_eq!(linked.text.len(), 160);
            let module = image.module().unwrap();
            let range = &module.data[0].bytes;
            assert_eq!(&image.data()[range.start as usize..range.end as usize], b"hello");
            assert_eq!(image.names().unwrap().get(1), Some("main"));
            assert_eq!(image.points().unwrap().get(4).unwrap(), functions(5)[4].points);
            assert_eq!(image.code().unwrap().range(2), Some((64, 20)));
            let names: Vec<_> = linked.symbols.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(
                names,
                ["import env.f", "main", "wasm[2]", "enter type[0]", "enter type[1]"]
            );
            assert_eq!(
                linked.symbols[3],
                Symbol {
                    name: "enter type[0]".into(),
                    start: 96,
                    len: 20
                }
            );
        }
    }

    #[test]
    fn names_can_be_left_out() {
        let images = build_with(&functions(5), false).unwrap();
        assert_eq!(Image::parse(&images[0].meta).unwrap().names().unwrap().get(1), None);
        assert_eq!(images[0].symbols[1].name, "wasm[1]");
    }

    #[test]
    fn bugs_of_the_function_compiler_are_told() {
        let broken: [fn(&mut CompiledFunction); 5] = [
            |f| f.points.record_size = 8,
            |f| f.points.push(f.points.points()[1], &[0]),
            |f| f.points.homes.clear(),
            |f| f.machine[0].record = 48,
            |f| drop(f.machine.pop()),
        ];
        for (n, breakage) in broken.iter().enumerate() {
            let mut functions = functions(5);
            breakage(&mut functions[2]);
            let result = build_with(&functions, true);
            assert!(
                matches!(result, Err(Error::Internal { func: 2, .. })),
                "{n}: {result:?}"
            );
        }
    }
}
