//! What an application knows of a client: a value of its own, which the library keeps with the client's session.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// One value of any type, or none.
#[derive(Clone, Default)]
pub struct Extensions(Option<Arc<dyn Any + Send + Sync>>);

impl Extensions {
    /// This value.
    pub fn new(value: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(value)))
    }

    /// The value, if it is of that type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }
}

/// Shows no value: it may hold secrets.
impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Extensions").field(&self.0.is_some()).finish()
    }
}
