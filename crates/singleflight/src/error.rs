//! What can go wrong with a flight, and with a call.

#[cfg(all(feature = "tokio", not(peercache_loom)))]
pub use call::CallError;

use std::error::Error;
use std::fmt;

/// The flight ended without a result: its leader was dropped, or panicked while it published. The
/// key is free; whoever still wants it may join again.
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

    use super::Abandoned;

    /// Why a [`SingleFlight`](crate::SingleFlight) has no value to give. Small and cheap to clone,
    /// for everyone who waited gets the same.
    ///
    /// `E` is the error of a fallible call, see
    /// [`SingleFlight::try_run`](crate::SingleFlight::try_run); a call that cannot fail has none.
    /// A [`Failed`](Self::Failed) shows itself as its `E` does.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum CallError<E = Infallible> {
        /// The call ran and returned this error.
        Failed(E),
        /// The call panicked.
        Panicked {
            /// What it said, if it said it with a string, as `panic!` and `expect` do.
            message: Option<Arc<str>>,
        },
        /// The call's task was stopped before it ended: its runtime is shutting down.
        Aborted,
        /// As many calls are running as
        /// [`SingleFlight::max_calls`](crate::SingleFlight::max_calls) allows, so this one was not
        /// started.
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

        /// The same error of a call that might have failed.
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
