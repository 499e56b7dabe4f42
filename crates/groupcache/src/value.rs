//! Values: the types that a group can hold.

pub(crate) mod block;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::BoxError;

/// A value that a group can hold: cheap to clone, and able to cross the network.
///
/// Cached values are kept decoded, so that a hit clones `Self` and decodes nothing. `Bytes` and
/// `String` are values, and so is `Arc<T>` for every value `T`: wrap a type that is costly to
/// clone.
///
/// ```
/// use peercache_groupcache::{BoxError, Bytes, Value};
///
/// #[derive(Clone)]
/// struct Score(u32);
///
/// impl Value for Score {
///     fn encode(&self) -> Result<Bytes, BoxError> {
///         Ok(Bytes::copy_from_slice(&self.0.to_be_bytes()))
///     }
///     fn decode(bytes: Bytes) -> Result<Self, BoxError> {
///         Ok(Score(u32::from_be_bytes(bytes.as_ref().try_into()?)))
///     }
///     fn weight(&self) -> usize {
///         0 // It holds nothing on the heap.
///     }
/// }
/// ```
pub trait Value: Clone + Send + Sync + Sized + 'static {
    /// Encodes the value as bytes for a peer.
    ///
    /// # Errors
    /// A value that has no such form. The peer that asked gets an error; callers at this node get
    /// the value.
    fn encode(&self) -> Result<Bytes, BoxError>;

    /// Decodes the value from the bytes that [`encode`](Value::encode) made at a peer.
    ///
    /// The bytes may come from a peer of another version, so nothing may be taken for granted about
    /// them.
    ///
    /// # Errors
    /// Bytes that are no such value. The peer then counts as failed and the value is loaded here.
    fn decode(bytes: Bytes) -> Result<Self, BoxError>;

    /// Counts the bytes of memory that the value holds beyond its own `size_of`, once it is
    /// [detached](Value::detach).
    ///
    /// They are charged to the group's budget and checked against its `max_value_bytes`.
    fn weight(&self) -> usize;

    /// Moves the value into memory of its own. Called once, before the value is cached.
    ///
    /// A value that is a slice of a larger buffer copies itself here, else one small entry keeps
    /// the whole buffer alive.
    ///
    /// Defaults to the value as it is.
    #[must_use = "the value that is returned is the detached one"]
    fn detach(self) -> Self {
        self
    }
}

impl Value for Bytes {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(self.clone())
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(bytes)
    }

    fn weight(&self) -> usize {
        self.len()
    }

    fn detach(self) -> Self {
        block::of(&[], &self)
    }
}

impl Value for String {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(self.as_bytes()))
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(std::str::from_utf8(&bytes)?.to_owned())
    }

    fn weight(&self) -> usize {
        // Not the capacity: it is the length once the value is detached.
        self.len()
    }

    fn detach(mut self) -> Self {
        self.shrink_to_fit();
        self
    }
}

impl<T: Value> Value for Arc<T> {
    fn encode(&self) -> Result<Bytes, BoxError> {
        T::encode(self)
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        T::decode(bytes).map(Arc::new)
    }

    fn weight(&self) -> usize {
        // The two counts of the `Arc` and the value itself live on the heap.
        2 * size_of::<usize>() + size_of::<T>() + T::weight(self)
    }

    fn detach(self) -> Self {
        match Arc::try_unwrap(self) {
            Ok(value) => Arc::new(value.detach()),
            // Somebody else holds it too, so its memory is alive whatever is done here.
            Err(shared) => shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_slice_lets_its_buffer_go() {
        let buffer = Bytes::from(vec![7; 65_536]);
        let held = buffer.slice(..100).detach();
        assert!(buffer.is_unique(), "the detached value still holds the buffer");
        assert_eq!(held.len(), 100);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        assert!(String::decode(Bytes::from_static(b"\xff")).is_err());
    }
}
