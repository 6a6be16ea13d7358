//! The store's contract, sentence by sentence, as tests that run through any implementation.
//!
//! A test takes a [`Place`], opens it and asks. Tests may share a place: each makes package names and ids of its own, and
//! those that list everything look only at theirs. So a database that is slow to set up is set up once.

mod cassandra;
mod changes;
mod commits;
mod conditions;
mod fixtures;
mod holds;
mod opened;
mod packages;
mod partitions;
mod projections;
mod puts;
mod reopened;
mod sqlite;
mod waves;
mod work;

use std::sync::Arc;

use async_trait::async_trait;
use feedsme::store::Store;

/// Where a store keeps its data.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store; again and again, with the data that is there.
    async fn open(&self) -> Arc<dyn Store>;
}

/// The tests of the contract, for a place made by `$place`.
macro_rules! contract {
    ($place:expr) => {
        $crate::store::contract! { @tests $place;
            changes::documents_are_kept_by_change_and_digest,
            changes::a_change_is_kept_whole_and_left_as_it_is,
            changes::what_planning_made_of_a_change_is_written_once,
            changes::accepting_keeps_document_change_and_work_every_time,
            changes::changes_are_listed_newest_first,
            changes::a_change_that_was_accepted_again_does_not_shorten_a_page,
            changes::what_is_of_the_past_ends_unless_something_is_left_to_send,
            changes::decisions_keep_their_first_value_and_come_in_the_order_of_their_keys,
            packages::an_unknown_package_has_seq_0_and_nothing_else,
            partitions::every_field_of_a_row_comes_back,
            partitions::statics_are_replaced_one_by_one,
            partitions::reservations_are_added_replaced_and_removed,
            partitions::only_what_was_asked_for_is_read_and_each_row_once,
            partitions::a_prefix_finds_the_versions_that_begin_with_it_and_no_other,
            partitions::an_edge_with_thousands_of_ranges_is_read_range_by_range,
            packages::answers_are_in_the_order_of_the_wants_however_many,
            packages::manifests_are_kept_by_digest,
            packages::published_versions_are_those_with_facts,
            packages::names_of_managed_packages_come_in_pages,
            packages::the_highest_versions_of_all_packages_come_in_pages,
            conditions::a_seq_is_spent_once,
            conditions::each_condition_of_a_row_applies_or_refuses,
            conditions::a_refused_batch_writes_nothing,
            commits::batches_of_one_call_are_independent_and_in_order,
            conditions::an_unlawful_batch_fails_alone,
            commits::of_32_batches_under_one_seq_exactly_one_is_applied,
            commits::of_32_claims_of_one_attempt_exactly_one_is_applied,
            commits::a_patch_changes_what_it_names_and_adds_waves,
            commits::a_row_keeps_where_it_was_born,
            commits::a_call_with_thousands_of_batches_answers_each,
            commits::everybody_reads_what_was_answered,
            commits::what_a_batch_made_of_a_partition_is_known_without_reading_it,
            projections::a_lower_stamp_changes_nothing,
            projections::an_equal_or_higher_stamp_replaces,
            projections::dependents_come_in_pages_in_the_order_of_names,
            projections::rows_of_dependents_are_found_by_both_names,
            projections::all_ranges_of_a_dependent_are_there,
            projections::lines_and_head_are_kept_apart,
            projections::dependents_of_a_line_come_in_pages,
            waves::columns_of_a_node_are_written_once_each,
            waves::every_column_of_a_node_is_written_once,
            waves::nodes_are_answered_in_order_however_many,
            waves::nodes_come_in_pages_in_the_order_of_their_keys,
            opened::a_wave_comes_back_whole_and_is_opened_once,
            opened::of_16_that_open_a_wave_exactly_one_does,
            opened::a_wave_moves_only_from_the_state_that_it_is_in,
            opened::of_16_moves_from_one_state_exactly_one_is_applied,
            opened::waves_are_listed_newest_first_and_each_once,
            opened::rows_of_a_plan_are_written_once_and_come_in_pages,
            opened::members_keep_their_first_cause_and_come_in_the_order_of_changes,
            opened::one_wave_after_the_other_collects,
            opened::what_a_wave_left_ends_with_it_and_not_before,
            holds::a_hold_is_written_once_and_is_there_until_it_ends,
            holds::all_holds_that_have_not_ended_come_in_pages,
            holds::all_outcomes_of_a_version_are_kept_in_their_order,
            waves::a_promotion_follows_only_the_latest_one,
            waves::of_16_promotions_on_one_generation_exactly_one_is_applied,
            waves::entries_of_the_latest_generation_count,
            work::a_rebuild_is_found_by_its_id,
            work::the_first_result_of_an_attempt_stays,
            work::work_is_left_as_it_is_and_can_be_put_again,
            work::all_pending_work_of_a_shard_comes_page_by_page,
            work::a_store_that_works_says_so,
            reopened::everything_is_there_after_the_store_was_closed_and_opened,
        }
    };
    (@tests $place:expr; $($file:ident :: $test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::store::$file::$test(&$place).await;
            }
        )*
    };
}
pub(crate) use contract;
