//! temporary
use dunlin_compiler::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut o = CompileOptions { name: "prog".into(), spectest: true, ..Default::default() };
    o.settings.want_clif = true;
    o.settings.want_asm = true;
    o.settings.opt_level = OptLevel::O2;
    let t = std::time::Instant::now();
    let c = match compile(&std::fs::read(&a[1]).unwrap(), &o) { Ok(c) => c, Err(e) => { eprintln!("error: {e}"); std::process::exit(1) } };
    eprintln!("compiled in {:?}", t.elapsed());
    std::fs::write(format!("{}.clif", a[2]), &c.clif).unwrap();
    for (arch, s) in &c.asm { std::fs::write(format!("{}.{arch}.s", a[2]), s).unwrap(); }
    for i in &c.images {
        std::fs::write(format!("{}.{}.o", a[2], i.arch), object::write_object(i).unwrap()).unwrap();
        if let Some(r) = a.get(3) {
            let rt = std::fs::read(format!("{r}.{}", i.arch)).unwrap();
            std::fs::write(format!("{}.{}", a[2], i.arch), executable::write_executable(&rt, i).unwrap()).unwrap();
        }
        eprintln!("{}: text {} meta {} symbols {}", i.arch, i.text.len(), i.meta.len(), i.symbols.len());
    }
}
