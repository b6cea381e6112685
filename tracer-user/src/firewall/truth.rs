//! Conditions of which not everything is known.

/// Yes, no, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    Yes,
    No,
    Unknown,
}

impl Truth {
    /// Both hold: `No` where one of them is known not to.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    /// The opposite; what is not known stays so.
    #[allow(
        clippy::should_implement_trait,
        reason = "an operator would read as if there were two values"
    )]
    pub fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{self, No, Unknown, Yes};

    #[test]
    fn what_is_unknown_does_not_hide_what_is_false() {
        assert_eq!(Unknown.and(No), No);
        assert_eq!(No.and(Unknown), No);
        assert_eq!(Yes.and(Unknown), Unknown);
        assert_eq!(Yes.and(Truth::from(true)), Yes);
        assert_eq!(Unknown.not(), Unknown);
    }
}
