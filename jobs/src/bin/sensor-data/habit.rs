//! How a device behaves, window by window.

use crate::rng::mix;

/// A device's way of behaving in one window; temperature in 1/100, vibration in 1/10000, pressure in 1/10.
pub(crate) struct Habit {
    pub(crate) temperature: i64,
    pub(crate) spread: i64,
    pub(crate) vibration: i64,
    pub(crate) pressure: i64,
}

impl Habit {
    pub(crate) fn of(seed: u64, device: u64, window: u64) -> Habit {
        let h = mix(seed ^ device.wrapping_mul(0x0123_4567));
        let g = mix(h ^ window);
        let mut habit = Habit {
            temperature: 4000 + (h % 3000) as i64,
            spread: 100 + ((h >> 16) % 400) as i64,
            vibration: 100 + ((h >> 32) % 300) as i64,
            pressure: 950 + ((h >> 44) % 150) as i64,
        };
        if g.is_multiple_of(10) {
            habit.fall_sick(g);
        }
        habit
    }

    pub(crate) fn fall_sick(&mut self, g: u64) {
        self.spread *= 4 + ((g >> 8) % 3) as i64;
        self.vibration += 300 + ((g >> 16) % 300) as i64;
        self.pressure -= 40 + ((g >> 24) % 60) as i64;
    }
}
