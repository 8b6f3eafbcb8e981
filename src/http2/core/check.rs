//! What is true of a [`Core`] whenever nobody is at work on it; for the tests.

use super::{Core, Role};

impl Core {
    /// Panics unless everything that counts streams and bytes agrees.
    pub(in crate::http2) fn check(&self) {
        let counted = self.slots.iter().filter(|(_, slot)| slot.counted).count();
        assert_eq!(self.open as usize, counted, "open streams");
        assert!(
            self.numbers.is_sorted_by(|(a, _), (b, _)| a < b),
            "numbers are in order: {:?}",
            self.numbers
        );
        for &(number, key) in &self.numbers {
            assert_eq!(self.slots[key].number, number, "number of slot {key}");
        }
        let numbered = self.slots.iter().filter(|(_, slot)| slot.number > 0).count();
        assert_eq!(numbered, self.numbers.len(), "every stream is found by its number");
        for (key, slot) in &self.slots {
            assert!(
                slot.handles > 0 || (self.role == Role::Server && !slot.is_over()) || self.gone.is_some()
            );
            assert!(!(slot.counted && slot.is_over()) || self.gone.is_some(), "slot {key} is over");
            assert!(
                !slot.waiting || self.waiting.contains(&key) || self.served.contains(&key),
                "slot {key} waits where nobody looks"
            );
            assert!(slot.inbox.len() <= slot.held as usize, "slot {key} has more than it holds");
        }
        self.check_windows();
    }

    /// What has come is with a stream, or owed, or announced again.
    fn check_windows(&self) {
        let held: u32 = self.slots.iter().map(|(_, slot)| slot.held).sum();
        // A connection that has broken the window is over.
        if self.receive_window >= 0 {
            let all = self.receive_window + i64::from(held) + i64::from(self.owed);
            assert_eq!(all, i64::from(self.limits.connection_window), "the connection's window");
        }
        for (key, slot) in &self.slots {
            // What is over, or nobody reads, has no use for one.
            if slot.error.is_none() && !slot.unread && !slot.received {
                let all = slot.receive_window + i64::from(slot.held) + i64::from(slot.owed);
                assert_eq!(all, i64::from(self.limits.stream_window), "the window of slot {key}");
            }
        }
    }

    /// What has been received and released, and is not announced yet.
    pub(in crate::http2) fn unannounced(&self) -> u32 {
        self.owed
    }
}
