//! The jobmanager: the REST interface, the ledger, and the driver of the control brain.
