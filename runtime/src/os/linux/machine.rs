//! What this machine and this process are: page size, memory, the executable's segments, who is at the other end.

use std::ops::Range;
use std::os::unix::net::UnixStream;

/// Size of the machine's pages in bytes.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// The machine's memory in bytes; 0 if it can't be told.
pub(crate) fn physical_memory() -> u64 {
    // SAFETY: asks for numbers, touches nothing.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let [pages, size] = [pages, size].map(|n| u64::try_from(n).unwrap_or(0));
    pages.saturating_mul(size)
}

/// The addresses of this executable's load segment that begins at `address`, from the program headers that the kernel
/// passed on.
pub(crate) fn load_segment(address: u64) -> Option<Range<u64>> {
    // SAFETY: `getauxval` has no preconditions.
    let (at, count, size) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_PHNUM),
            libc::getauxval(libc::AT_PHENT),
        )
    };
    if at == 0 || size as usize != size_of::<libc::Elf64_Phdr>() {
        return None;
    }
    // SAFETY: the kernel says that this many program headers of this size are mapped at `at`; they are never written
    // to.
    let headers = unsafe { std::slice::from_raw_parts(at as *const libc::Elf64_Phdr, count as usize) };
    let header = headers
        .iter()
        .find(|h| h.p_type == libc::PT_LOAD && h.p_vaddr == address)?;
    Some(address..address.checked_add(header.p_memsz)?)
}

/// The addresses of C's `memmove` and `memset`, which compiled code calls.
#[cfg(not(feature = "pulley"))]
pub(crate) fn memory_routines() -> (u64, u64) {
    (libc::memmove as *const () as u64, libc::memset as *const () as u64)
}

/// Tells whether the process at the other end belongs to another user, who isn't the superuser. `false` if that is
/// unknown.
pub(crate) fn is_strangers(stream: &UnixStream) -> bool {
    let own = rustix::process::getuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid != own && !peer.uid.is_root())
}
