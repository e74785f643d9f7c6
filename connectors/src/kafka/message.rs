//! A message as a topic has it, for as long as it is being read.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;
use std::slice;

use rdkafka::bindings as sys;

/// A message of a topic, borrowed from the client that has fetched it.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    message: *const sys::rd_kafka_message_t,
    topic: &'a str,
    lifetime: PhantomData<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// # Safety
    /// The message must be one without an error, and must not be destroyed before `'a` is over.
    pub(super) unsafe fn new(message: *const sys::rd_kafka_message_t, topic: &'a str) -> Self {
        Self { message, topic, lifetime: PhantomData }
    }

    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the message is there for as long as the lifetime, as `new` demands.
        unsafe { &*self.message }
    }

    /// The topic's name.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// The offset in the partition.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The value; None for a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka gives pointer and length of memory that lives as long as the message.
        unsafe { bytes(raw.payload.cast(), raw.len) }
    }

    /// The key, if the message has one.
    pub fn key(&self) -> Option<&'a [u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka gives pointer and length of memory that lives as long as the message.
        unsafe { bytes(raw.key.cast(), raw.key_len) }
    }

    /// When the message was produced, or appended to the log, as the topic is set up: in milliseconds since the Unix epoch.
    pub fn timestamp(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is there, and `kind` is written to.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.message, &mut kind) };
        (timestamp >= 0).then_some(timestamp)
    }

    /// The headers, in their order; a value may be missing.
    pub fn headers(&self) -> Vec<(String, Option<&'a [u8]>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is there, and keeps the headers.
        let found = unsafe { sys::rd_kafka_message_headers(self.message, &mut headers) };
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Vec::new();
        }
        // SAFETY: they were found.
        let count = unsafe { sys::rd_kafka_header_cnt(headers) };
        (0..count).filter_map(|i| header(headers, i)).collect()
    }
}

fn header<'a>(headers: *const sys::rd_kafka_headers_t, i: usize) -> Option<(String, Option<&'a [u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the headers are those of a message, and the three are written to.
    let got = unsafe { sys::rd_kafka_header_get_all(headers, i, &mut name, &mut value, &mut size) };
    if got != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    // SAFETY: a name ends with a zero, and both live as long as the message.
    unsafe { Some((CStr::from_ptr(name).to_string_lossy().into_owned(), bytes(value.cast(), size))) }
}

/// # Safety
/// If the pointer is not null, so many bytes must be there for `'a`.
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller says so.
    Some(unsafe { slice::from_raw_parts(start, length) })
}
