from django.urls import path

from missions import views

urlpatterns = [path("artifacts/<str:ref>", views.artifact, name="artifact")]
