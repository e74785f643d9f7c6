//! Requests of a cluster's jobmanager, signed with the cluster secret.
