//! The errors of waiters: a flight was abandoned, or a call failed.

#[cfg(all(feature = "tokio", not(peercache_loom)))]
pub use call::CallError;

use std::error::Error;
use std::fmt;

/// The error of a flight that ended without a result: its leader was dropped, or panicked while it
/// published.
///
/// The key is free. A caller that still wants it can join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the flight was abandoned before it had a result")
    }
}

impl Error for Abandoned {}

#[cfg(all(feature = "tokio", not(peercache_loom)))]
mod call {
    use std::any::Any;
    use std::convert::Infallible;
    use std::error::Error;
    use std::fmt;
    use std::sync::Arc;

    use crate::error::Abandoned;

    /// The reason why a [`SingleFlight`](crate::SingleFlight) has no value to give.
    ///
    /// It is small and cheap to clone, since all waiters get the same. `E` is the error of a
    /// fallible call, see [`SingleFlight::try_run`](crate::SingleFlight::try_run). A call that
    /// cannot fail has none. A [`Failed`](Self::Failed) is displayed as its `E`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum CallError<E = Infallible> {
        /// The call ran and returned this error.
        Failed(E),
        /// The call panicked.
        Panicked {
            /// The panic's message, if it is a string, as that of `panic!` and `expect`.
            message: Option<Arc<str>>,
        },
        /// The call's task was stopped before it ended: its runtime is shutting down.
        Aborted,
        /// The call was not started, since
        /// [`SingleFlight::max_calls`](crate::SingleFlight::max_calls) are running.
        TooManyCalls {
            /// The limit.
            max: usize,
        },
        /// A call was to be started outside a tokio runtime.
        NoRuntime,
    }

    impl CallError {
        pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
            let string = panic.downcast_ref::<String>().map(String::as_str);
            let message = string.or_else(|| panic.downcast_ref::<&str>().copied());
            Self::Panicked { message: message.map(Arc::from) }
        }

        /// Converts it to the error of a call that might have failed.
        pub(crate) fn widen<E>(self) -> CallError<E> {
            match self {
                Self::Failed(never) => match never {},
                Self::Panicked { message } => CallError::Panicked { message },
                Self::Aborted => CallError::Aborted,
                Self::TooManyCalls { max } => CallError::TooManyCalls { max },
                Self::NoRuntime => CallError::NoRuntime,
            }
        }
    }

    impl From<Abandoned> for CallError {
        fn from(_: Abandoned) -> Self {
            Self::Aborted
        }
    }

    impl<E: fmt::Display> fmt::Display for CallError<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Failed(error) => error.fmt(f),
                Self::Panicked { message: Some(message) } => write!(f, "the call panicked: {message}"),
                Self::Panicked { message: None } => f.write_str("the call panicked"),
                Self::Aborted => f.write_str("the call was stopped with its runtime"),
                Self::TooManyCalls { max } => {
                    write!(f, "{max} calls are running, the most allowed")
                }
                Self::NoRuntime => f.write_str("there is no tokio runtime to start the call on"),
            }
        }
    }

    impl<E: Error> Error for CallError<E> {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Self::Failed(error) => error.source(),
                _ => None,
            }
        }
    }
}
