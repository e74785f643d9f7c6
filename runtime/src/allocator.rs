//! The allocators of the program, and their settings for returning freed memory to the system.
//!
//! There are two: mimalloc for Rust code, if the program has chosen it, and malloc of the C library for RocksDB. The memory
//! that they retain comes on top of `--memory`, and with their default settings they retain much: see
//! `docs/decisions/0018-memory-is-what-state-takes.md` for what was measured. For a program that has chosen another
//! allocator nothing is set here.

/// mimalloc, for a program to choose as its global allocator. The memory figures of the documentation are measured with it;
/// without it a job takes more memory and some more CPU.
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
/// With it a job returns freed memory to the system at once and uses no huge pages: in the whole process, and in the
/// programs that it starts (`PR_SET_THP_DISABLE`).
#[cfg(feature = "mimalloc")]
pub use mimalloc::MiMalloc;

/// Makes the allocators return freed memory to the system, if the program has chosen mimalloc. It may be called any number
/// of times, best before the state grows.
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
    // SAFETY: the call takes only numbers, and determines how the memory of this process is mapped from here on. A kernel
    // that does not know the option changes nothing.
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

/// malloc of glibc raises the size from which buffers are returned to the system with every such buffer that is freed, up
/// to 32 MB, and has an arena for every thread: a small store retained five times as much memory in buffers as was in use.
#[cfg(all(feature = "mimalloc", target_os = "linux", target_env = "gnu"))]
fn return_large_buffers() {
    const LARGE: i32 = 128 << 10;
    let options = [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE), (libc::M_ARENA_MAX, 2)];
    for (option, value) in options {
        // SAFETY: it sets a number of the allocator and may be called at any time.
        unsafe { libc::mallopt(option, value) };
    }
}
