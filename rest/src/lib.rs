//! The types of the REST interface.
