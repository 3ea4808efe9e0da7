//! The decisions of the balancer in a world of virtual time: servers are killed, fall silent or lose
//! their etcd, while clients write without waiting for one another. Measured is the longest time in which
//! a client has no success.

use std::net::SocketAddr;

use super::choose::Pool;
use super::health::{Asked, At, Look, Verdict};
use super::limits::{DRAIN_LIMIT, PROBE_EVERY, PROBE_LIMIT, QUIET, READY_EVERY, READY_LIMIT};

/// Virtual milliseconds.
type Ms = u64;

const SERVERS: usize = 3;
const CLIENTS: usize = 3;
/// From one request of a client to its next.
const REQUEST_EVERY: Ms = 20;
/// How long a request waits for its answer.
const CLIENT_LIMIT: Ms = 1_000;
/// What the network and a well server take.
const ROUND_TRIP: Ms = 1;
const ANSWER: Ms = 5;
/// From one fault to the next, and how long one lasts.
const FAULT_EVERY: Ms = 8_000;
const FAULT_LASTS: Ms = 5_000;

fn ms(duration: At) -> Ms {
    duration.as_millis() as Ms
}

fn server(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 6443))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Well,
    /// Its host answers with resets.
    Killed,
    /// Its host answers nothing.
    Silent,
    /// It takes connections and answers nothing, since its etcd is gone.
    NoEtcd,
}

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Something that is done again and again: under way until, with what came of it.
struct Repeated<T> {
    next: Ms,
    under_way: Option<(Ms, Ms, T)>,
}

struct Connection {
    server: usize,
    /// When its server said something.
    spoke: Ms,
    drained: Option<Ms>,
}

#[derive(Default)]
struct Client {
    connection: Option<Connection>,
    /// A connection in the making: servers that are left to try, and when the first of them is decided.
    dials: Option<(Vec<usize>, Ms)>,
    /// Requests that wait for a connection: when they began.
    waiting: Vec<Ms>,
    /// Requests on the connection: when they began, and when they are answered, if they are.
    sent: Vec<(Ms, Option<Ms>)>,
    success: Ms,
    gap: Ms,
}

struct World {
    now: Ms,
    dice: Dice,
    states: [State; SERVERS],
    /// Until then etcd elects: nobody is ready, and what is asked is lost.
    election: Ms,
    pool: Pool,
    looks: Vec<Repeated<bool>>,
    asks: Vec<Repeated<bool>>,
    clients: Vec<Client>,
    /// Connections to well servers that were cut or drained.
    needless: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut pool = Pool::new(dice.below(100) as usize);
        pool.set(&(0..SERVERS).map(server).collect::<Vec<_>>(), None);
        let mut phases = |every: At| {
            (0..SERVERS).map(|_| Repeated { next: dice.below(ms(every)), under_way: None }).collect()
        };
        let (looks, asks) = (phases(PROBE_EVERY), phases(READY_EVERY));
        Self {
            now: 0,
            states: [State::Well; SERVERS],
            election: 0,
            pool,
            looks,
            asks,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            needless: 0,
            dice,
        }
    }

    fn at(&self) -> At {
        At::from_millis(self.now)
    }

    /// How long a connection to a server takes, and whether it comes about.
    fn connects(&self, n: usize) -> (Ms, bool) {
        match self.states[n] {
            State::Silent => (ms(PROBE_LIMIT), false),
            State::Killed => (ROUND_TRIP, false),
            State::Well | State::NoEtcd => (ROUND_TRIP, true),
        }
    }

    fn probe(&mut self, n: usize) {
        let (now, at) = (self.now, server(n));
        if let Some((began, until, answered)) = self.looks[n].under_way
            && until <= now
        {
            self.pool.looked(&at, Look { began: At::from_millis(began), answered });
            self.looks[n] = Repeated { next: now.max(began + ms(PROBE_EVERY)), under_way: None };
        }
        if self.looks[n].under_way.is_none() && self.looks[n].next <= now {
            let (takes, answered) = self.connects(n);
            self.looks[n].under_way = Some((now, now + takes, answered));
        }
        if let Some((began, until, ready)) = self.asks[n].under_way
            && until <= now
        {
            let asked = if ready { Asked::Ready } else { Asked::Not(String::new()) };
            self.pool.asked(&at, asked, self.at());
            self.asks[n] = Repeated { next: now.max(began + ms(READY_EVERY)), under_way: None };
        }
        if self.asks[n].under_way.is_none() && self.asks[n].next <= now {
            let ready = self.states[n] == State::Well && self.election <= now;
            let takes = if ready { ANSWER } else { ms(READY_LIMIT) };
            self.asks[n].under_way = Some((now, now + takes, ready));
        }
    }

    fn judge(&mut self, c: usize) {
        let (now, at) = (self.now, self.at());
        let Some(connection) = &mut self.clients[c].connection else { return };
        let drained = match self.pool.verdict(&server(connection.server), at) {
            Verdict::Keep => {
                connection.drained = None;
                false
            }
            Verdict::Drain => {
                let since = *connection.drained.get_or_insert(now);
                now - connection.spoke.max(since) >= ms(QUIET) || now - since >= ms(DRAIN_LIMIT)
            }
            Verdict::Cut => true,
        };
        let n = connection.server;
        // The kernel of a host whose server was killed says so.
        let killed = self.states[n] == State::Killed;
        if drained || killed {
            self.needless += usize::from(self.states[n] == State::Well);
            self.clients[c].connection = None;
            self.clients[c].sent.clear();
        }
    }

    fn dial(&mut self, c: usize) {
        let now = self.now;
        if self.clients[c].connection.is_some() || self.clients[c].waiting.is_empty() {
            return;
        }
        let Some((left, decided)) = self.clients[c].dials.take() else {
            let order = self.pool.order();
            let order: Vec<usize> =
                (0..order.len()).filter_map(|i| (0..SERVERS).find(|n| server(*n) == order[i])).collect();
            let takes = self.connects(order[0]).0;
            self.clients[c].dials = Some((order, now + takes));
            return;
        };
        if decided > now {
            self.clients[c].dials = Some((left, decided));
            return;
        }
        if self.connects(left[0]).1 {
            let look = Look { began: self.at(), answered: true };
            self.pool.looked(&server(left[0]), look);
            self.clients[c].connection = Some(Connection { server: left[0], spoke: now, drained: None });
            return;
        }
        self.pool.failed(&server(left[0]), self.at());
        if let Some(next) = left.get(1) {
            let takes = self.connects(*next).0;
            self.clients[c].dials = Some((left[1..].to_vec(), now + takes));
        }
    }

    fn exchange(&mut self, c: usize) {
        let (now, well) = (self.now, self.election <= self.now);
        let states = self.states;
        let client = &mut self.clients[c];
        if (now + c as Ms).is_multiple_of(REQUEST_EVERY) {
            client.waiting.push(now);
        }
        client.waiting.retain(|began| now - began < CLIENT_LIMIT);
        client.sent.retain(|(began, _)| now - began < CLIENT_LIMIT);
        if let Some(connection) = &mut client.connection {
            let answers = states[connection.server] == State::Well;
            let answered = |began: Ms| (began, (answers && well).then_some(now + ANSWER));
            client.sent.extend(client.waiting.drain(..).map(answered));
            let before = client.sent.len();
            client.sent.retain(|(_, answer)| !(answers && answer.is_some_and(|at| at <= now)));
            if client.sent.len() < before {
                connection.spoke = now;
                self.pool.heard(&server(connection.server), At::from_millis(now));
                client.success = now;
            }
        }
        client.gap = client.gap.max(now - client.success);
    }

    fn step(&mut self) {
        (0..SERVERS).for_each(|n| self.probe(n));
        for c in 0..CLIENTS {
            self.judge(c);
            self.dial(c);
            self.exchange(c);
        }
        self.now += 1;
    }

    /// The longest gap of any client while `faults` come one after the other to servers by lot.
    fn run(&mut self, faults: &[State], election: Ms) -> Ms {
        for fault in faults {
            let begins = FAULT_EVERY / 2 + self.dice.below(FAULT_EVERY / 4);
            (0..begins).for_each(|_| self.step());
            let victim = self.dice.below(SERVERS as u64) as usize;
            self.states[victim] = *fault;
            self.election = self.now + election;
            (0..FAULT_LASTS).for_each(|_| self.step());
            self.states[victim] = State::Well;
        }
        (0..FAULT_EVERY).for_each(|_| self.step());
        self.clients.iter().map(|c| c.gap).max().unwrap_or(0)
    }
}

#[test]
fn a_lost_server_interrupts_new_requests_for_less_than_a_second() {
    // Who waits for a server without etcd waits for patience, the last question before it, and the drain.
    for (what, fault, election, limit) in [
        ("nothing", State::Well, 0, 40),
        ("killed, not the leader of etcd", State::Killed, 0, 60),
        ("silent, not the leader of etcd", State::Silent, 0, 650),
        ("killed, the leader of etcd", State::Killed, 700, 800),
        ("silent, the leader of etcd", State::Silent, 700, 1_000),
        ("its etcd is gone", State::NoEtcd, 0, 3_500),
    ] {
        let mut worst = 0;
        for seed in 0..10 {
            let mut world = World::new(seed);
            let gap = world.run(&[fault; 3], election);
            assert!(gap < limit, "{what}, seed {seed}: {gap} ms");
            assert_eq!(world.needless, 0, "{what}, seed {seed}: connections to well servers were ended");
            worst = worst.max(gap);
        }
        println!("{what}: at most {worst} ms without a success");
    }
}

#[test]
fn faults_of_all_kinds_end_no_connection_to_a_well_server() {
    for seed in 100..110 {
        let mut world = World::new(seed);
        let faults: Vec<State> = (0..6)
            .map(|_| [State::Killed, State::Silent, State::NoEtcd, State::Well][world.dice.below(4) as usize])
            .collect();
        let election = world.dice.below(1_900);
        let gap = world.run(&faults, election);
        assert!(gap < 4_500, "seed {seed}: {gap} ms, {faults:?}");
        assert_eq!(world.needless, 0, "seed {seed}: {faults:?}");
    }
}
