"""Room `runs`: many drives, what exists of them already, and what is left to do."""

from perception_batch.runs.collection_at_url import CollectionAtUrl
from perception_batch.runs.drive_at_url import DriveAtUrl, put_segment
from perception_batch.runs.drives import Drive, find_drives
from perception_batch.runs.events import NAME as EVENTS
from perception_batch.runs.events import EventLog, read_events
from perception_batch.runs.existing import Difference, Identity, difference, stage_of_keys
from perception_batch.runs.fingerprint import Content, content_of
from perception_batch.runs.growth import GrowthWatcher, Look, look_at
from perception_batch.runs.hook import DoneFacts, parse_hook, run_hook
from perception_batch.runs.ledger import Entry, Ledger
from perception_batch.runs.lock import Holder, OutputLock, holder, locked
from perception_batch.runs.nightly import PlannedDrive, Wanted, parse_since, plan_runs, plan_text
from perception_batch.runs.output_url import OutputUrl, refuse_url
from perception_batch.runs.prometheus import collection_gauges, write_exposition
from perception_batch.runs.retry import Backoff, is_transient, retried
from perception_batch.runs.run_record import FOLDER
from perception_batch.runs.segment_content import DetectedTimestep, SegmentContent
from perception_batch.runs.segment_file import SegmentRefused, StoredSegment
from perception_batch.runs.segment_store import Made, SegmentStore, clear_segments, read_plan
from perception_batch.runs.segments import SegmentPlan, cut, thawed
from perception_batch.runs.stage_hashes import StageHashes, stage_hashes
from perception_batch.runs.status import DriveStatus, collection_status, lock_path
from perception_batch.runs.store_errors import StoreError
from perception_batch.runs.url_files import UrlFiles
from perception_batch.runs.url_lease import UrlLease

__all__ = [
    "EVENTS",
    "FOLDER",
    "Backoff",
    "CollectionAtUrl",
    "Content",
    "DetectedTimestep",
    "Difference",
    "DoneFacts",
    "Drive",
    "DriveAtUrl",
    "DriveStatus",
    "Entry",
    "EventLog",
    "GrowthWatcher",
    "Holder",
    "Identity",
    "Ledger",
    "Look",
    "Made",
    "OutputLock",
    "OutputUrl",
    "PlannedDrive",
    "SegmentContent",
    "SegmentPlan",
    "SegmentRefused",
    "SegmentStore",
    "StageHashes",
    "StoreError",
    "StoredSegment",
    "UrlFiles",
    "UrlLease",
    "Wanted",
    "clear_segments",
    "collection_gauges",
    "collection_status",
    "content_of",
    "cut",
    "difference",
    "find_drives",
    "holder",
    "is_transient",
    "lock_path",
    "locked",
    "look_at",
    "parse_hook",
    "parse_since",
    "plan_runs",
    "plan_text",
    "put_segment",
    "read_events",
    "read_plan",
    "refuse_url",
    "retried",
    "run_hook",
    "stage_hashes",
    "stage_of_keys",
    "thawed",
    "write_exposition",
]
