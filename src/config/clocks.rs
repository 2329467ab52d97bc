//! When a desk calls something overdue.

use serde::{Deserialize, Serialize};

use super::{ConfigError, Key, Span};
use crate::{limits, wire::Precedence};

settings! {
    /// When a desk calls something overdue.
    pub struct ClocksConfig {
        /// How long after a FLASH was handed in its addressees must have it, and have acknowledged it where that is asked
        /// for: a whole number and s, m, h or d, from "1m" to "60d".
        flash: Span = Span::minutes(10);
        /// The same for IMMEDIATE.
        immediate: Span = Span::minutes(30);
        /// The same for PRIORITY.
        priority: Span = Span::minutes(3 * 60);
        /// The same for ROUTINE.
        routine: Span = Span::minutes(6 * 60);
        /// Precedences whose clock counts only the addressee's working hours, without its holidays, as the roster has
        /// them. The others always run.
        working_hours: Vec<Precedence> = vec![Precedence::Priority, Precedence::Routine];
    }
}

impl ClocksConfig {
    /// The time of a precedence.
    pub fn span(&self, precedence: Precedence) -> Span {
        match precedence {
            Precedence::Flash => self.flash,
            Precedence::Immediate => self.immediate,
            Precedence::Priority => self.priority,
            Precedence::Routine => self.routine,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for precedence in Precedence::HIGHEST_FIRST {
            let span = self.span(precedence);
            if !(limits::CLOCK_TIME_MIN..=limits::CLOCK_TIME_MAX).contains(&span.0) {
                let key = match precedence {
                    Precedence::Flash => "clocks.flash",
                    Precedence::Immediate => "clocks.immediate",
                    Precedence::Priority => "clocks.priority",
                    Precedence::Routine => "clocks.routine",
                };
                let problem = format!("holds \"{span}\": write a span from \"1m\" to \"60d\"");
                return Err(ConfigError::Value { key, problem });
            }
        }
        Ok(())
    }
}
