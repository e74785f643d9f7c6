//! The program's allocators, and that they give freed memory back to the system.
//!
//! There are two: mimalloc for all that is Rust, and malloc of the C library for RocksDB. What they keep for themselves
//! comes on top of `--memory`. As they come they keep much: see `docs/decisions/0018-memory-is-what-state-takes.md` for
//! what was measured. A program that brings an allocator of its own (without the feature `mimalloc`) chooses for itself;
//! nothing is set for it here.

// The unit tests have one that counts, see [`crate::state::weight`].
#[cfg(all(feature = "mimalloc", not(test)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Has freed memory given back. It may be called any number of times, best before the state grows.
pub(crate) fn give_back_freed_memory() {
    #[cfg(all(feature = "mimalloc", not(test)))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            #[cfg(target_os = "linux")]
            use_small_pages();
            purge_at_once();
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            return_large_buffers();
        });
    }
}

/// mimalloc asks for huge pages, and then a page of 2 MB stays as long as a single byte of it is in use. Programs that this
/// one starts have small pages, too.
#[cfg(all(feature = "mimalloc", not(test), target_os = "linux"))]
fn use_small_pages() {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: it takes numbers alone, and says of this process's memory how it is mapped from here on. Where the kernel does
    // not know it, nothing changes.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
}

/// mimalloc waits for a while before it gives memory back, because it might be used again.
#[cfg(all(feature = "mimalloc", not(test)))]
fn purge_at_once() {
    /// `mi_option_purge_delay` of mimalloc.h, which the crate has no name for.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: it sets a number of the allocator and may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
}

/// malloc of glibc raises the size from which a buffer is returned with every one that is freed, up to 32 MB, and has an
/// arena for every thread: of the buffers of a small store five times as much stayed as was in use.
#[cfg(all(feature = "mimalloc", not(test), target_os = "linux", target_env = "gnu"))]
fn return_large_buffers() {
    const LARGE: i32 = 128 << 10;
    let options = [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE), (libc::M_ARENA_MAX, 2)];
    for (option, value) in options {
        // SAFETY: it sets a number of the allocator and may be called at any time.
        unsafe { libc::mallopt(option, value) };
    }
}
