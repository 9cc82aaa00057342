/** Which check must catch which deliberately wrong engine: the proof that the suite has teeth. */
import type { MemoryEngine, MemoryEngineMaker } from './memory-engine.js';
import * as wrong from './mutant-engines.js';

export interface Mutant {
  readonly mistake: string;
  readonly make: MemoryEngineMaker;
  /** Beginning of the name of the check that must fail; or which kind of random history. */
  readonly caughtBy: string;
}

type Mistaken = new (...args: ConstructorParameters<typeof MemoryEngine>) => MemoryEngine;

function mutant(mistaken: Mistaken, caughtBy: string): Mutant {
  const mistake = mistaken.name.replaceAll(/(?<!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return { mistake, make: (...args) => new mistaken(...args), caughtBy };
}

export const MUTANTS: readonly Mutant[] = [
  mutant(wrong.LastInFirstOut, 'a queue is first in first out'),
  mutant(wrong.DeliversTwiceWhenRaced, 'receives at once give no message twice'),
  mutant(wrong.DeliversTwiceWhenRaced, 'concurrent histories'),
  mutant(wrong.RemainingCountsTheReturned, 'a receive takes at most its limit'),
  mutant(wrong.DropsTheNewest, 'drop_oldest: a full queue keeps'),
  mutant(wrong.QueuesForUnknownRecipients, 'a message to an unknown recipient'),
  mutant(wrong.Utf16Order, 'keys are listed in the byte order'),
  mutant(wrong.Utf16Order, 'sequential histories'),
  mutant(wrong.LocaleOrder, 'keys are listed in the byte order'),
  mutant(wrong.PrefixIsALikePattern, 'a prefix selects exactly'),
  mutant(wrong.KeyCursorIsAPosition, 'a key cursor stands right after'),
  mutant(wrong.LastFullPageHasACursor, 'keys of every kind of character are listed'),
  mutant(wrong.TotalOfAllKeys, 'every page tells the total of its prefix'),
  mutant(wrong.OneByteTooMany, 'the store may be filled to its capacity'),
  mutant(wrong.OneByteTooFew, 'the store may be filled to its capacity'),
  mutant(wrong.CountsUtf16Units, 'used bytes are the UTF-8 bytes'),
  mutant(wrong.ForgetsKeyBytes, 'used bytes are the UTF-8 bytes'),
  mutant(wrong.ReplacedValuesKeepTheirRoom, 'a full store takes replacements'),
  mutant(wrong.ChecksCapacityTooEarly, 'of equal writes at once exactly as many'),
  mutant(wrong.RefusedWriteStillStores, 'a refused write leaves the old value'),
  mutant(wrong.FirstWriteWins, 'the last write wins'),
  mutant(wrong.AnswersBeforeItIsVisible, 'an answered write is read by everyone'),
  mutant(wrong.AnswersBeforeItIsVisible, 'concurrent histories'),
  mutant(wrong.KeysEndAtNul, 'keys and values of every kind of character'),
  mutant(wrong.KeysAreNormalized, 'a delete touches no key with a similar name'),
  mutant(wrong.SameValueKeepsItsWriter, 'sequential histories'),
  mutant(wrong.DeleteAlwaysSucceeds, 'a key that is not there'),
  mutant(wrong.DeletesTwiceWhenRaced, 'of deletes at once of one key'),
  mutant(wrong.TakenLookupIsOverwritten, 'a taken agent lookup is refused'),
  mutant(wrong.RegistryIsSortedByAddress, 'agents are listed in the order'),
  mutant(wrong.UnknownCursorStartsAgain, 'a registry cursor the engine did not make'),
  mutant(wrong.ChallengesAreReusable, 'a challenge is handed out exactly as stored'),
  mutant(wrong.ChallengesNeverExpire, 'an expired challenge'),
  mutant(wrong.ChallengesAreUnbounded, 'an operator who hoards challenges'),
  mutant(wrong.HoarderPushesOutOthers, 'an operator who hoards challenges'),
  mutant(wrong.DeliveredComesBackAfterRestart, 'restart: undelivered messages are kept in order'),
  mutant(wrong.LosesTokensOnRestart, 'crash: operators, agents, tokens'),
  mutant(wrong.LosesTheCapacityCountOnRestart, 'crash: capacity counters equal'),
  mutant(wrong.RecoversQueuesBackwards, 'restart: messages keep their ids'),
  mutant(wrong.EventLengthsInUtf16Units, 'each mutation is one event'),
  mutant(wrong.SeqRepeats, 'seq rises strictly'),
  mutant(wrong.DropsAreNoEvents, 'a dropped message is an event'),
  mutant(wrong.RefusedDeleteIsAnEvent, 'what is refused'),
  mutant(wrong.RepliesWithTheWrongScheme, 'agents get distinct addresses of the published form'),
  mutant(wrong.OperatorLookupIsOverwritten, 'a taken operator lookup'),
  mutant(wrong.RegistersTwiceWhenRaced, 'of registrations at once'),
  mutant(wrong.FindsAddressesInAnyCase, 'unknown lookups and addresses'),
  mutant(wrong.RegistryPagesEndAt999, 'a page of 1,000 agents'),
  mutant(wrong.ChallengeTakenTwiceWhenRaced, 'of takes at once of one challenge'),
  mutant(wrong.QueuesShareOneLimit, 'reject: a full queue does not stop other queues'),
];
