//! The FIFO between append and ack, one per connection. Here stands I1.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use journal::{AppendError, Receipt};

use crate::budget::Budget;
use crate::verdict::Verdict;

/// Capacity that an idle connection may keep.
const KEEP: usize = 32;

/// A message whose records are appended and whose ack has not left.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// 0 at QoS 0: it waits for its receipts like the others, and gets no ack.
    pub packet_id: u16,
    pub qos: u8,
    /// How many receipts are still to come.
    pub receipts: usize,
    /// Entries that became inputs.
    pub accepted: u32,
    /// Bytes taken from the budget.
    pub cost: usize,
    /// What became dead letters, if anything did.
    pub verdict: Option<Box<Verdict>>,
}

pub(crate) struct Receipts {
    waiting: VecDeque<Waiting>,
    /// Of all waiting messages, in order; a message owns the next [`Waiting::receipts`] of them.
    receipts: VecDeque<Receipt>,
    in_flight: usize,
    cost: usize,
    budget: Arc<Budget>,
}

impl Receipts {
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { waiting: VecDeque::new(), receipts: VecDeque::new(), in_flight: 0, cost: 0, budget }
    }

    /// A receipt of the message that will be pushed next.
    pub fn expect(&mut self, receipt: Receipt) {
        self.receipts.push_back(receipt);
    }

    /// Bytes were taken from the budget for a message that is still to be pushed.
    pub fn took(&mut self, cost: usize) {
        self.cost += cost;
    }

    pub fn push(&mut self, message: Waiting) {
        self.in_flight += usize::from(message.qos > 0);
        self.waiting.push_back(message);
    }

    /// **I1, the only place that lets an ack leave.** The head leaves when each of its receipts said that its record is durable (J1); the next
    /// one is looked at only then, so acks keep the order of the messages. A receipt that failed ends the connection instead.
    pub fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Waiting, AppendError>> {
        let Some(head) = self.waiting.front_mut() else { return Poll::Pending };
        while head.receipts > 0 {
            let Some(receipt) = self.receipts.front_mut() else { return Poll::Ready(Err(AppendError::Closed)) };
            ready!(Pin::new(receipt).poll(context))?;
            self.receipts.pop_front();
            head.receipts -= 1;
        }
        self.leave().map_or(Poll::Pending, |head| Poll::Ready(Ok(head)))
    }

    fn leave(&mut self) -> Option<Waiting> {
        let head = self.waiting.pop_front()?;
        self.in_flight -= usize::from(head.qos > 0);
        self.cost -= head.cost;
        self.budget.give_back(head.cost);
        if self.waiting.is_empty() && self.receipts.capacity().max(self.waiting.capacity()) > KEEP {
            self.waiting.shrink_to(KEEP);
            self.receipts.shrink_to(KEEP);
        }
        Some(head)
    }

    /// Messages with a packet identifier.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn holds(&self, packet_id: u16) -> bool {
        self.waiting.iter().any(|message| message.packet_id == packet_id)
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        self.budget.give_back(self.cost);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use journal::ReceiptSender;
    use schemas::Offset;

    use super::*;

    struct Fifo {
        receipts: Receipts,
        senders: Vec<Option<ReceiptSender>>,
    }

    impl Fifo {
        /// Messages 1, 2, … with so many records each.
        fn new(records: &[usize]) -> Self {
            let mut fifo = Self { receipts: Receipts::new(Arc::new(Budget::new(1 << 20))), senders: Vec::new() };
            for (i, &receipts) in records.iter().enumerate() {
                for _ in 0..receipts {
                    let (sender, receipt) = Receipt::channel();
                    fifo.senders.push(Some(sender));
                    fifo.receipts.expect(receipt);
                }
                assert!(fifo.receipts.budget.try_take(10));
                fifo.receipts.took(10);
                fifo.receipts.push(Waiting { packet_id: i as u16 + 1, qos: 1, receipts, accepted: 0, cost: 10, verdict: None });
            }
            fifo
        }
        fn answer(&mut self, receipt: usize, result: Result<Offset, AppendError>) {
            self.senders[receipt].take().unwrap().send(result);
        }
        /// The acks that may leave now.
        fn acks(&mut self) -> Result<Vec<u16>, AppendError> {
            let mut acks = Vec::new();
            while let Poll::Ready(head) = self.receipts.poll_head(&mut Context::from_waker(Waker::noop())) {
                acks.push(head?.packet_id);
            }
            Ok(acks)
        }
    }

    #[test]
    fn i1_an_ack_waits_for_every_receipt_and_for_those_before_it() {
        let mut fifo = Fifo::new(&[2, 1, 0, 1]);
        assert!(fifo.acks().unwrap().is_empty(), "nothing is durable");
        fifo.answer(2, Ok(Offset(0)));
        fifo.answer(0, Ok(Offset(0)));
        assert!(fifo.acks().unwrap().is_empty(), "the head has one of two, the second message must wait for it");
        fifo.answer(1, Ok(Offset(0)));
        assert_eq!(fifo.acks().unwrap(), [1, 2, 3]);
        assert_eq!(fifo.receipts.in_flight(), 1);
        fifo.answer(3, Ok(Offset(0)));
        assert_eq!(fifo.acks().unwrap(), [4]);
        assert_eq!(fifo.receipts.budget.free(), 1 << 20, "the budget is whole again");
    }

    #[test]
    fn i1_a_failed_receipt_is_no_ack() {
        for lost in [false, true] {
            let mut fifo = Fifo::new(&[1, 2, 1]);
            fifo.answer(0, Ok(Offset(0)));
            fifo.answer(2, Ok(Offset(0)));
            fifo.answer(3, Ok(Offset(0)));
            if lost {
                drop(fifo.senders[1].take());
            } else {
                fifo.answer(1, Err(AppendError::DiskFull));
            }
            assert!(fifo.acks().is_err());
            let Fifo { receipts, .. } = fifo;
            let budget = receipts.budget.clone();
            drop(receipts);
            assert_eq!(budget.free(), 1 << 20, "a connection that ends gives back what it held");
        }
    }
}
