//! What a program may import: the functions the runtime provides, with their types. The compiler refuses anything else.
//!
//! Source of the WASI types: the witx files of `wasi_snapshot_preview1` and `wasi_unstable`, lowered to core
//! WebAssembly (handles, sizes, pointers, enums and flags of up to 32 bits are `i32`; results other than the errno go
//! through pointers).

use crate::types::{FuncType, ValType};

/// The module name of WASI preview1.
pub const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The module name of its predecessor: same functions and numbers but for `sock_accept` (absent), the numbering of
/// `whence`, and the layouts of `filestat` and `subscription`.
pub const UNSTABLE: &str = "wasi_unstable";

/// The module name the specification's test suite imports its print functions from.
pub const SPECTEST: &str = "spectest";

/// Name and parameters (one letter each: `i` i32, `l` i64) of every WASI function. All but `proc_exit` return an errno.
const WASI: [(&str, &str); 46] = [
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_exit", "i"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Name and parameters (`f` f32, `d` f64) of the test suite's print functions. None returns anything.
const PRINT: [(&str, &str); 7] = [
    ("print", ""),
    ("print_f32", "f"),
    ("print_f64", "d"),
    ("print_f64_f64", "dd"),
    ("print_i32", "i"),
    ("print_i32_f32", "if"),
    ("print_i64", "l"),
];

/// The type of the function `module`.`name`, if the runtime provides it.
pub fn signature(module: &str, name: &str) -> Option<FuncType> {
    let table: &[(&str, &str)] = match module {
        PREVIEW1 => &WASI,
        UNSTABLE if name != "sock_accept" => &WASI,
        SPECTEST => &PRINT,
        _ => return None,
    };
    let (_, params) = table[table.binary_search_by_key(&name, |entry| entry.0).ok()?];
    let params = params.bytes().map(|b| match b {
        b'i' => ValType::I32,
        b'l' => ValType::I64,
        b'f' => ValType::F32,
        _ => ValType::F64,
    });
    let returns = module != SPECTEST && name != "proc_exit";
    Some(FuncType {
        params: params.collect(),
        results: if returns { vec![ValType::I32] } else { Vec::new() },
    })
}

/// Every function the runtime provides, as (module, name).
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let wasi = |module: &'static str| WASI.iter().map(move |f| (module, f.0));
    wasi(PREVIEW1)
        .chain(wasi(UNSTABLE).filter(|f| f.1 != "sock_accept"))
        .chain(PRINT.iter().map(|f| (SPECTEST, f.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ValType::*;

    #[test]
    fn tables_are_sorted_and_every_entry_is_found() {
        assert!(WASI.is_sorted_by(|a, b| a.0 < b.0));
        assert!(PRINT.is_sorted_by(|a, b| a.0 < b.0));
        for (module, name) in all() {
            assert!(signature(module, name).is_some(), "{module} {name}");
        }
        assert_eq!(all().count(), 46 + 45 + 7);
    }

    #[test]
    fn types_are_those_of_the_specification() {
        let ty = |params: &[ValType], results: &[ValType]| {
            Some(FuncType {
                params: params.into(),
                results: results.into(),
            })
        };
        assert_eq!(
            signature(PREVIEW1, "path_open"),
            ty(&[I32, I32, I32, I32, I32, I64, I64, I32, I32], &[I32])
        );
        assert_eq!(signature(PREVIEW1, "fd_seek"), ty(&[I32, I64, I32, I32], &[I32]));
        assert_eq!(signature(PREVIEW1, "proc_exit"), ty(&[I32], &[]));
        assert_eq!(signature(PREVIEW1, "sched_yield"), ty(&[], &[I32]));
        assert_eq!(signature(SPECTEST, "print_i32_f32"), ty(&[I32, F32], &[]));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(signature(UNSTABLE, "sock_accept"), None);
        assert_eq!(signature(PREVIEW1, "fd_dup"), None);
        assert_eq!(signature("env", "fd_read"), None);
        assert_eq!(signature(SPECTEST, "fd_read"), None);
    }
}
