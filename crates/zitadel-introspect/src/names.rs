//! Names that must not be mistaken for one another.

use std::fmt;

use compact_str::CompactString;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(CompactString);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&'static str> for $name {
            fn from(name: &'static str) -> Self {
                Self(CompactString::const_new(name))
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(CompactString::from(name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A role's key on a project, case-sensitive and exact. Your own enum of roles becomes one by
    /// `impl From<MyRole> for Role`.
    Role
}
name! {
    /// One scope, case-sensitive (RFC 6749 section 3.3).
    Scope
}
name! {
    /// The id of a ZITADEL organization, such as `"400949520696937510"`.
    OrganizationId
}
name! {
    /// The id of a ZITADEL project.
    ProjectId
}
