//! Names and ids, each with its own type, so that they cannot be confused.

use std::{convert::Infallible, fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(CompactString);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(CompactString::from(name))
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(CompactString::from(name))
            }
        }

        impl From<&String> for $name {
            fn from(name: &String) -> Self {
                Self(CompactString::from(name))
            }
        }

        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }

        impl FromStr for $name {
            type Err = Infallible;

            fn from_str(name: &str) -> Result<Self, Infallible> {
                Ok(name.into())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
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
    /// A role's key on a project, case-sensitive and exact. `impl From<MyRole> for Role` converts your own enum of
    /// roles.
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
name! {
    /// The id of a ZITADEL user: `sub`.
    UserId
}
name! {
    /// The id of a token: `jti`, or the id of an OIDC session, which is the part of `jti` before `-at_`.
    TokenId
}
