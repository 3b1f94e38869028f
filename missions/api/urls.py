"""Routes of missions, sorties, agents and events. Fixed paths precede those with an id."""

from __future__ import annotations

from django.urls import path

from missions.api import events, live, missions, schedules, sorties, templates
from missions.api.agents import agent_types, external_agents, roster
from missions.api.workspaces import changes, reservations

V1 = "api/v1"
_MISSION, _SORTIE, _AGENT = f"{V1}/missions/<str:ref>", f"{V1}/sorties/<str:ref>", f"{V1}/agents/<str:ref>"
_SCHEDULE = f"{V1}/schedules/<str:ref>"

urlpatterns = [
    path(f"{V1}/missions", missions.Missions.as_view(), name="api-missions"),
    path(f"{V1}/plans/schema", missions.PlanSchema.as_view(), name="api-plan-schema"),
    path(f"{V1}/plans/check", missions.PlanCheck.as_view(), name="api-plan-check"),
    path(f"{V1}/templates", templates.Templates.as_view(), name="api-templates"),
    path(_MISSION, missions.MissionDetail.as_view(), name="api-mission"),
    path(f"{_MISSION}/cancel", missions.CancelMission.as_view()),
    path(f"{_MISSION}/pause", missions.PauseMission.as_view()),
    path(f"{_MISSION}/resume", missions.ResumeMission.as_view()),
    path(f"{_MISSION}/retry", missions.RetryMission.as_view()),
    path(f"{_MISSION}/progress", missions.MissionProgress.as_view()),
    path(f"{_MISSION}/sorties", missions.MissionSorties.as_view()),
    path(f"{_MISSION}/graph", missions.MissionGraph.as_view()),
    path(f"{_MISSION}/timeline", missions.MissionTimeline.as_view()),
    path(f"{_MISSION}/logs", missions.MissionLogs.as_view()),
    path(f"{_MISSION}/artifacts", missions.MissionArtifacts.as_view()),
    path(f"{_MISSION}/reservations", reservations.MissionReservations.as_view()),
    path(f"{_MISSION}/diff", changes.MissionDiffView.as_view()),
    path(f"{_MISSION}/conflicts", changes.MissionConflicts.as_view()),
    path(f"{_MISSION}/merge", changes.MergeMission.as_view()),
    path(f"{_MISSION}/discard", changes.DiscardMission.as_view()),
    path(f"{_MISSION}/events", events.MissionEvents.as_view()),
    path(f"{_MISSION}/events/stream", live.MissionStream.as_view()),
    path(f"{V1}/schedules", schedules.Schedules.as_view(), name="api-schedules"),
    path(f"{V1}/schedules/preview", schedules.PreviewSchedule.as_view()),
    path(_SCHEDULE, schedules.ScheduleDetail.as_view(), name="api-schedule"),
    path(f"{_SCHEDULE}/ticks", schedules.ScheduleTicks.as_view()),
    path(f"{_SCHEDULE}/pause", schedules.PauseSchedule.as_view()),
    path(f"{_SCHEDULE}/resume", schedules.ResumeSchedule.as_view()),
    path(f"{_SCHEDULE}/run", schedules.RunSchedule.as_view()),
    path(f"{V1}/sorties/claim", external_agents.ClaimSorties.as_view(), name="api-claim"),
    path(_SORTIE, sorties.SortieDetail.as_view(), name="api-sortie"),
    path(f"{_SORTIE}/attempts", sorties.SortieAttempts.as_view()),
    path(f"{_SORTIE}/logs", sorties.SortieLogs.as_view()),
    path(f"{_SORTIE}/logs.txt", sorties.SortieLogText.as_view()),
    path(f"{_SORTIE}/artifacts", sorties.SortieArtifacts.as_view()),
    path(f"{_SORTIE}/reservations", reservations.SortieReservations.as_view()),
    path(f"{_SORTIE}/reservations/release", reservations.ReleaseRequestedReservations.as_view()),
    path(f"{_SORTIE}/diff", changes.SortieDiffView.as_view()),
    path(f"{_SORTIE}/resolve", changes.ResolveConflict.as_view()),
    path(f"{_SORTIE}/cancel", sorties.CancelSortie.as_view()),
    path(f"{_SORTIE}/retry", sorties.RetrySortie.as_view()),
    path(f"{_SORTIE}/repository.bundle", external_agents.RepositoryBundle.as_view()),
    path(f"{_SORTIE}/heartbeat", external_agents.SortieHeartbeat.as_view()),
    path(f"{_SORTIE}/progress", external_agents.ReportProgress.as_view()),
    path(f"{_SORTIE}/complete", external_agents.CompleteSortie.as_view()),
    path(f"{_SORTIE}/fail", external_agents.FailSortie.as_view()),
    path(f"{V1}/reservations/<str:ref>/release", reservations.ReleaseReservation.as_view()),
    path(f"{V1}/artifacts/<str:ref>/content", sorties.ArtifactContent.as_view(), name="api-artifact"),
    path(f"{V1}/agents", roster.Agents.as_view(), name="api-agents"),
    path(f"{V1}/agents/spawn", roster.SpawnAgents.as_view()),
    path(f"{V1}/agents/system-health", roster.SystemHealth.as_view(), name="api-system-health"),
    path(_AGENT, roster.AgentDetail.as_view(), name="api-agent"),
    path(f"{_AGENT}/heartbeat", external_agents.AgentHeartbeat.as_view()),
    path(f"{_AGENT}/leave", external_agents.AgentLeave.as_view()),
    path(f"{_AGENT}/progress", external_agents.AgentProgress.as_view()),
    path(f"{_AGENT}/health", roster.AgentHealth.as_view()),
    path(f"{_AGENT}/logs", roster.AgentLogs.as_view()),
    path(f"{_AGENT}/resources", roster.AgentResources.as_view()),
    path(f"{V1}/agent-types", agent_types.AgentTypes.as_view(), name="api-agent-types"),
    path(f"{V1}/agent-types/<str:ref>", agent_types.AgentTypeDetail.as_view()),
    path(f"{V1}/nodes", roster.Nodes.as_view(), name="api-nodes"),
    path(f"{V1}/events", events.EventList.as_view(), name="api-events"),
    path(f"{V1}/events/stream", live.EventStream.as_view()),
    path(f"{V1}/tickets", live.Tickets.as_view()),
]
