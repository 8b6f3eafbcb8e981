//! The load client that ebb is tested and measured with.
