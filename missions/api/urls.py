"""Routes of missions, sorties, agents and events. Fixed paths precede those with an id."""

from __future__ import annotations

from django.urls import path

from missions.api import agent_types, agents, events, external_agents, live, missions, sorties, templates

V1 = "api/v1"
_MISSION, _SORTIE, _AGENT = f"{V1}/missions/<str:ref>", f"{V1}/sorties/<str:ref>", f"{V1}/agents/<str:ref>"

urlpatterns = [
    path(f"{V1}/missions", missions.Missions.as_view(), name="api-missions"),
    path(f"{V1}/plans/schema", missions.PlanSchema.as_view(), name="api-plan-schema"),
    path(f"{V1}/plans/check", missions.PlanCheck.as_view(), name="api-plan-check"),
    path(f"{V1}/templates", templates.Templates.as_view(), name="api-templates"),
    path(_MISSION, missions.MissionDetail.as_view(), name="api-mission"),
    path(f"{_MISSION}/cancel", missions.Cancel.as_view()),
    path(f"{_MISSION}/pause", missions.Pause.as_view()),
    path(f"{_MISSION}/resume", missions.Resume.as_view()),
    path(f"{_MISSION}/retry", missions.Retry.as_view()),
    path(f"{_MISSION}/progress", missions.Progress.as_view()),
    path(f"{_MISSION}/sorties", missions.MissionSorties.as_view()),
    path(f"{_MISSION}/graph", missions.Graph.as_view()),
    path(f"{_MISSION}/timeline", missions.Timeline.as_view()),
    path(f"{_MISSION}/logs", missions.Logs.as_view()),
    path(f"{_MISSION}/artifacts", missions.Artifacts.as_view()),
    path(f"{_MISSION}/events", events.MissionEvents.as_view()),
    path(f"{_MISSION}/events/stream", live.MissionStream.as_view()),
    path(f"{V1}/sorties/claim", external_agents.ClaimSorties.as_view(), name="api-claim"),
    path(_SORTIE, sorties.SortieDetail.as_view(), name="api-sortie"),
    path(f"{_SORTIE}/attempts", sorties.Attempts.as_view()),
    path(f"{_SORTIE}/logs", sorties.Logs.as_view()),
    path(f"{_SORTIE}/logs.txt", sorties.LogText.as_view()),
    path(f"{_SORTIE}/artifacts", sorties.Artifacts.as_view()),
    path(f"{_SORTIE}/cancel", sorties.Cancel.as_view()),
    path(f"{_SORTIE}/retry", sorties.Retry.as_view()),
    path(f"{_SORTIE}/heartbeat", external_agents.Heartbeat.as_view()),
    path(f"{_SORTIE}/progress", external_agents.ReportProgress.as_view()),
    path(f"{_SORTIE}/complete", external_agents.CompleteSortie.as_view()),
    path(f"{_SORTIE}/fail", external_agents.FailSortie.as_view()),
    path(f"{V1}/artifacts/<str:ref>/content", sorties.ArtifactContent.as_view(), name="api-artifact"),
    path(f"{V1}/agents", agents.Agents.as_view(), name="api-agents"),
    path(f"{V1}/agents/spawn", agents.SpawnAgents.as_view()),
    path(f"{V1}/agents/system-health", agents.SystemHealth.as_view(), name="api-system-health"),
    path(_AGENT, agents.AgentDetail.as_view(), name="api-agent"),
    path(f"{_AGENT}/heartbeat", external_agents.AgentHeartbeat.as_view()),
    path(f"{_AGENT}/leave", external_agents.AgentLeave.as_view()),
    path(f"{_AGENT}/progress", external_agents.AgentProgress.as_view()),
    path(f"{_AGENT}/health", agents.AgentHealth.as_view()),
    path(f"{_AGENT}/logs", agents.AgentLogs.as_view()),
    path(f"{_AGENT}/resources", agents.Resources.as_view()),
    path(f"{V1}/agent-types", agent_types.AgentTypes.as_view(), name="api-agent-types"),
    path(f"{V1}/agent-types/<str:ref>", agent_types.AgentTypeDetail.as_view()),
    path(f"{V1}/nodes", agents.Nodes.as_view(), name="api-nodes"),
    path(f"{V1}/events", events.EventList.as_view(), name="api-events"),
    path(f"{V1}/events/stream", live.EventStream.as_view()),
    path(f"{V1}/tickets", live.Tickets.as_view()),
]
