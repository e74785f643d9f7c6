//! Compares weights with the memory that was allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::*;

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of the allocated bytes of every thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What an allocation takes of the C library's heap: the least chunk that has room for it and for the chunk's header, in
/// steps of two words. The chunk that it is given in fact can be one step larger if the rest would be too small for a chunk
/// of its own, which depends on what all other threads have freed before; a test cannot count on that.
fn taken(size: usize) -> usize {
    const STEP: usize = 2 * size_of::<usize>();
    (size + size_of::<usize>()).next_multiple_of(STEP).max(2 * STEP)
}

fn count(change: impl FnOnce(usize) -> usize) {
    // A thread that is ending frees memory without a count.
    let _ = HELD.try_with(|held| held.set(change(held.get())));
}

// SAFETY: all is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller has promised.
        let at = unsafe { System.alloc(layout) };
        count(|held| held.wrapping_add(taken(layout.size())));
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(|held| held.wrapping_sub(taken(layout.size())));
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(at, layout) };
    }
}

/// The ratio of weight to allocated memory, over a hundred values that are made one after the other.
fn ratio<T: Serialize>(make: impl Fn(u64) -> T) -> f64 {
    let mut values = Vec::with_capacity(100);
    let before = HELD.get();
    values.extend((0..100).map(make));
    let taken = HELD.get() - before;
    let weighed: usize = values.iter().map(|value| heap_size(value).unwrap()).sum();
    weighed as f64 / taken as f64
}

/// Asserts that a weight is no less than 0.8 of what is taken, so that memory stays within 1.3 times what was allowed, and
/// no more than `most` times.
#[track_caller]
fn weighs<T: Serialize>(most: f64, make: impl Fn(u64) -> T) {
    let ratio = ratio(make);
    assert!((0.8..=most).contains(&ratio), "{}: {ratio:.2}", std::any::type_name::<T>());
}

/// A list that has grown one by one.
fn grown<T, C: Default + Extend<T>>(values: impl Iterator<Item = T>) -> C {
    values.fold(C::default(), |mut list, value| {
        list.extend([value]);
        list
    })
}

/// Numbers in no order.
fn scattered(n: u64) -> impl Iterator<Item = u64> {
    (0..n).map(|i| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[derive(Serialize)]
struct Reading {
    device: String,
    at: i64,
    values: Vec<f32>,
    note: Option<String>,
    raised: bool,
}

#[derive(Serialize)]
enum Shape {
    Nothing,
    Circle(f64),
    Box { corners: Box<[[f64; 2]; 4]> },
}

fn reading(i: u64) -> Reading {
    let device = format!("device-{i}");
    let note = i.is_multiple_of(2).then(|| "a note of some length".to_owned());
    Reading { device, at: 7, values: grown((0..i % 9).map(|v| v as f32)), note, raised: true }
}

#[test]
fn texts_and_lists() {
    weighs(1.3, |i| "x".repeat(i as usize));
    weighs(1.3, |i| format!("device-{i}"));
    weighs(2.0, |i| grown::<_, Vec<u64>>(0..i));
    weighs(2.0, |i| (0..i).collect::<Vec<u64>>());
    weighs(2.0, |i| grown::<_, Vec<u8>>((0..i).map(|b| b as u8)));
    weighs(2.0, |i| grown::<_, VecDeque<(u32, u64)>>((0..i).map(|b| (1, b))));
    weighs(1.6, |i| grown::<_, Vec<String>>((0..i % 20).map(|n| format!("element {n}"))));
    weighs(1.6, |i| grown::<_, Vec<Vec<u16>>>((0..i % 20).map(|n| vec![7; n as usize])));
    weighs(1.6, |i| Arc::<str>::from("shared ".repeat(i as usize)));
    weighs(2.0, |i| (0..i as u8).collect::<Box<[u8]>>());
}

#[test]
fn maps_and_sets() {
    for entries in [1, 3, 10, 100, 1_000] {
        weighs(1.7, |_| grown::<_, BTreeMap<u64, (f64, u32)>>((0..entries).map(|i| (i, (0.5, 1)))));
        weighs(2.2, |_| grown::<_, BTreeMap<u64, f64>>(scattered(entries).map(|i| (i, 0.5))));
        weighs(2.2, |_| grown::<_, HashMap<u64, f64>>(scattered(entries).map(|i| (i, 0.5))));
        weighs(2.2, |_| grown::<_, BTreeMap<String, u64>>((0..entries).map(|i| (format!("page-{i}"), i))));
        weighs(2.2, |_| {
            grown::<_, HashMap<String, Vec<u8>>>((0..entries).map(|i| (format!("p{i}"), vec![1; 9])))
        });
        weighs(2.2, |_| grown::<_, HashSet<u64>>(scattered(entries)));
        weighs(2.2, |_| grown::<_, BTreeSet<u64>>(scattered(entries)));
    }
}

#[test]
fn nested_values() {
    weighs(1.6, reading);
    weighs(1.6, |i| grown::<_, Vec<Reading>>((0..i % 10).map(reading)));
    weighs(1.6, |i| Some(Box::new(reading(i))));
    weighs(1.6, |i| (i, [reading(i), reading(i + 1)]));
    weighs(1.6, |i| match i % 3 {
        0 => Shape::Nothing,
        1 => Shape::Circle(1.0),
        _ => Shape::Box { corners: Box::new([[0.0; 2]; 4]) },
    });
    weighs(2.2, |i| BTreeMap::from([(i, grown::<_, BTreeMap<u64, u64>>((0..i % 7).map(|n| (n, n))))]));
}

#[test]
fn values_without_heap_memory_weigh_nothing() {
    assert_eq!(heap_size(&(1u8, -2i64, [0.5f32; 9], Some(7u128), 'x', ())).unwrap(), 0);
    assert_eq!(heap_size(&Shape::Circle(1.0)).unwrap(), 0);
    assert_eq!(heap_size(&std::net::IpAddr::from([127, 0, 0, 1])).unwrap(), 0);
    assert_eq!(heap_size(&(String::new(), Vec::<u64>::new(), BTreeMap::<u8, u8>::new())).unwrap(), 0);
}
