//! The program's allocators, and that they give freed memory back to the system.
//!
//! There are two: mimalloc for all that is Rust, if the program has chosen it, and malloc of the C library for RocksDB. What
//! they keep for themselves comes on top of `--memory`. As they come they keep much: see
//! `docs/decisions/0018-memory-is-what-state-takes.md` for what was measured. For a program that has chosen another
//! allocator nothing is set here.

/// mimalloc, for a program to choose. Its figures of memory are those of the documentation; without it a job runs, too, and
/// takes more memory and some more CPU.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;
///
/// fn main() {
///     // tidegate::main("my-job", build)
/// }
/// ```
///
/// With it a job has freed memory given back to the system at once, and takes no huge pages: for the whole process, and for
/// the programs that it starts (`PR_SET_THP_DISABLE`).
#[cfg(feature = "mimalloc")]
pub use mimalloc::MiMalloc;

/// Has freed memory given back, if the program has chosen mimalloc. It may be called any number of times, best before the
/// state grows.
pub(crate) fn give_back_freed_memory() {
    #[cfg(feature = "mimalloc")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            if !is_chosen() {
                return;
            }
            #[cfg(target_os = "linux")]
            use_small_pages();
            purge_at_once();
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            return_large_buffers();
        });
    }
}

/// True if mimalloc is the program's allocator: what is allocated is its own.
#[cfg(feature = "mimalloc")]
fn is_chosen() -> bool {
    let probe = Box::new(0u64);
    // SAFETY: it compares an address with those of its heaps, and reads nothing there.
    unsafe { libmimalloc_sys::mi_is_in_heap_region((&raw const *probe).cast()) }
}

/// mimalloc asks for huge pages, and then a page of 2 MB stays as long as a single byte of it is in use. Programs that this
/// one starts have small pages, too.
#[cfg(all(feature = "mimalloc", target_os = "linux"))]
fn use_small_pages() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: it takes numbers alone, and says of this process's memory how it is mapped from here on. Where the kernel does
    // not know it, nothing changes.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// mimalloc waits for a while before it gives memory back, because it might be used again.
#[cfg(feature = "mimalloc")]
fn purge_at_once() {
    /// `mi_option_purge_delay` of mimalloc.h, which the crate has no name for.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: it sets a number of the allocator and may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// malloc of glibc raises the size from which a buffer is returned with every one that is freed, up to 32 MB, and has an
/// arena for every thread: of the buffers of a small store five times as much stayed as was in use.
#[cfg(all(feature = "mimalloc", target_os = "linux", target_env = "gnu"))]
fn return_large_buffers() {
    const LARGE: i32 = 128 << 10;
    let options = [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE), (libc::M_ARENA_MAX, 2)];
    for (option, value) in options {
        // SAFETY: it sets a number of the allocator and may be called at any time.
        unsafe { libc::mallopt(option, value) };
    }
}
