//! HTTP and Socket.IO on the listeners: accept loop and limits, guard, routes.
