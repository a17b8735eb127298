//! What nodes that are gone leave on the server does not hide those that are there.

use crate::fleet::Node;
use crate::server::Server;
use testkit::daemon::SOON;
use testkit::eventually;

#[test]
fn nodes_that_are_gone_are_forgotten_and_hide_nobody() {
    let Some(server) = Server::start(&[]) else { return };
    // 150 that left nothing but their names, 300 whose streams are still there, and what no node wrote.
    let leave = "for n = 1, 450 do
            local name = string.format('%03d', n)
            redis.call('HSET', KEYS[1], 'gone' .. name .. ' e', '7')
            if n > 150 then
                redis.call('XADD', 'mpm-monitor:events:gone' .. name .. ':e', '7-0', 'p', '6', 'a', '1', 'n', 'n', 's', 's', 'd', '{}')
            end
        end
        redis.call('HSET', KEYS[1], 'x:y e', '7', 'nobody', '7', 'many e', 'as many', '\\255 e', '\\255')
        return redis.call('HLEN', KEYS[1])";
    let names = "mpm-monitor:streams";
    assert_eq!(server.say(&["EVAL", leave, "1", names]), "454");
    let a = Node::serving("a", &server.url(), &[]);
    let b = Node::serving("b", &server.url(), &[]);
    a.until_connected();
    b.until_connected();
    a.post("one");
    b.post("two");
    a.until_same_as(&b, SOON);
    b.until_same_as(&a, SOON);
    // What the gone have left is read, a part at a time.
    eventually(SOON, "all streams to be read", || match a.figure("received") {
        301 => Ok(()),
        read => Err(read),
    });
    eventually(SOON, "the names without a stream to go", || {
        let left = server.say(&["HKEYS", names]);
        if left.lines().any(|name| name.starts_with("gone001")) { Err(left.lines().count()) } else { Ok(()) }
    });
    assert_eq!(server.say(&["HEXISTS", names, "gone151 e"]), "1");
}
